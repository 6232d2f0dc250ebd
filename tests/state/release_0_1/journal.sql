BEGIN TRANSACTION;
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, account TEXT NOT NULL, at TEXT NOT NULL, action TEXT NOT NULL,
    undoes INTEGER REFERENCES entries(id)
);
INSERT INTO "entries" VALUES(1,'http://127.0.0.1:18765','consortium_staff','2026-11-25T23:53:31.484+00:00','move',NULL);
INSERT INTO "entries" VALUES(2,'http://127.0.0.1:18765','consortium_staff','2026-11-25T23:53:32.259+00:00','remove',NULL);
INSERT INTO "entries" VALUES(3,'http://127.0.0.1:18765','consortium_staff','2026-11-25T23:53:33.464+00:00','undo',1);
INSERT INTO "entries" VALUES(4,'http://127.0.0.1:18765','consortium_staff','2026-11-25T23:53:35.804+00:00','remove',NULL);
INSERT INTO "entries" VALUES(5,'http://127.0.0.1:18765','consortium_staff','2026-11-25T23:53:55.001+00:00','remove',NULL);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL REFERENCES steps(id), at TEXT NOT NULL, state TEXT NOT NULL,
    value INTEGER, reason TEXT NOT NULL DEFAULT ''
);
INSERT INTO "events" VALUES(1,1,'2026-11-25T23:53:31.489+00:00','sending',NULL,'');
INSERT INTO "events" VALUES(2,1,'2026-11-25T23:53:31.519+00:00','done',1002,'');
INSERT INTO "events" VALUES(3,2,'2026-11-25T23:53:32.274+00:00','sending',NULL,'');
INSERT INTO "events" VALUES(4,2,'2026-11-25T23:53:32.283+00:00','done',1100,'');
INSERT INTO "events" VALUES(5,3,'2026-11-25T23:53:33.468+00:00','sending',NULL,'');
INSERT INTO "events" VALUES(6,3,'2026-11-25T23:53:33.476+00:00','done',1015,'');
INSERT INTO "events" VALUES(7,6,'2026-11-25T23:53:55.014+00:00','sending',NULL,'');
CREATE TABLE settled (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, entry INTEGER NOT NULL REFERENCES entries(id)
);
CREATE TABLE steps (
    id INTEGER PRIMARY KEY, entry INTEGER NOT NULL REFERENCES entries(id), patron INTEGER NOT NULL,
    field TEXT NOT NULL, before INTEGER NOT NULL, after INTEGER
);
INSERT INTO "steps" VALUES(1,1,1052,'usrgroup',1015,1002);
INSERT INTO "steps" VALUES(2,2,1019,'usrgroup',1005,NULL);
INSERT INTO "steps" VALUES(3,3,1052,'usrgroup',1002,1015);
INSERT INTO "steps" VALUES(4,4,900,'usrgroup',5,NULL);
INSERT INTO "steps" VALUES(5,4,901,'usrgroup',5,NULL);
INSERT INTO "steps" VALUES(6,5,900,'usrgroup',5,NULL);
CREATE INDEX entries_gateway ON entries(gateway);
CREATE INDEX settled_gateway ON settled(gateway, entry);
CREATE INDEX steps_entry ON steps(entry);
CREATE INDEX events_step ON events(step);
CREATE TRIGGER entries_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER entries_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER steps_update BEFORE UPDATE ON steps BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER steps_delete BEFORE DELETE ON steps BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER events_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER events_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER settled_update BEFORE UPDATE ON settled BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER settled_delete BEFORE DELETE ON settled BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
COMMIT;
PRAGMA user_version=0;
