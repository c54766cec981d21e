-- How a machine is held: NULL means owned, else JSON (moving to another host, or parked).
ALTER TABLE ownership ADD COLUMN hold TEXT;

-- Small named documents: definitions of parked machines, the certificate authority, invitations, sagas.
-- A removed one keeps its row with body NULL, so that its versions never come again.
CREATE TABLE document (
  key     TEXT NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL,
  body    BLOB
) WITHOUT ROWID, STRICT;
