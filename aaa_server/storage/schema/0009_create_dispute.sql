-- A charge that somebody does not accept: until it is resolved, people see it on the
-- record. What comes of it is a new rating, an adjustment, or nothing.
CREATE TABLE dispute (
    dispute_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    call_id bigint NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    opened_by_id bigint NOT NULL REFERENCES account,
    reason text NOT NULL CHECK (reason <> ''),
    resolved_at timestamptz CHECK (resolved_at >= opened_at),
    outcome text,
    CHECK ((resolved_at IS NULL) = (outcome IS NULL))
);
-- One open dispute a call.
CREATE UNIQUE INDEX dispute_open ON dispute (call_id) WHERE resolved_at IS NULL;
CREATE INDEX dispute_call ON dispute (call_id);

ALTER TABLE dispute ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON dispute TO sky_aaa_viewer;
CREATE POLICY viewer_sees ON dispute FOR SELECT TO sky_aaa_viewer
    USING (call_id IN (SELECT call_id FROM cdr));
