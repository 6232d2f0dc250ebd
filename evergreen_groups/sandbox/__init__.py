"""An embedded stand-in for an Evergreen gateway, on SQLite, over real HTTP on loopback."""
