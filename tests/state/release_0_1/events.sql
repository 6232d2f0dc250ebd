BEGIN TRANSACTION;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, at TEXT NOT NULL, event INTEGER NOT NULL, hook TEXT NOT NULL,
    patron INTEGER NOT NULL, done INTEGER NOT NULL, blocked INTEGER, recalculated INTEGER NOT NULL,
    reason TEXT NOT NULL
);
INSERT INTO "events" VALUES(1,'http://127.0.0.1:18765/osrf-gateway-v1','2026-11-25T23:53:35.792+00:00',11,'checkout',5,1,1,1,'');
INSERT INTO "events" VALUES(2,'http://127.0.0.1:18765/osrf-gateway-v1','2026-11-25T23:53:35.798+00:00',12,'checkout',6,0,NULL,0,'TransportError');
CREATE UNIQUE INDEX events_done ON events(gateway, event, hook, patron) WHERE done;
CREATE TRIGGER events_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END;
CREATE TRIGGER events_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END;
COMMIT;
PRAGMA user_version=0;
