-- What the worker does on schedule: periods invoiced by themselves, their mails and reminders,
-- and reports by e-mail. All of it is off until somebody asks for it.

-- How an issuer's periods are invoiced once they are over. `next_from` is the first day of the
-- next one, on the issuer's clock: it moves on when all of a period is invoiced.
CREATE TABLE invoice_schedule (
    issuer_id bigint PRIMARY KEY REFERENCES party,
    unit text NOT NULL CHECK (unit IN ('month', 'quarter', 'year')),
    next_from date NOT NULL,
    grace_hours integer NOT NULL DEFAULT 6 CHECK (grace_hours BETWEEN 0 AND 720),
    -- Written as PDFs, mailed, or reminded of is what was issued from then on; null: nothing is.
    documents_since timestamptz,
    mail_since timestamptz,
    remind_since timestamptz
);

-- What keeps a job from an account's work, so that it is told once and not at every run.
CREATE TABLE job_problem (
    job text NOT NULL CHECK (job ~ '^[a-z][a-z-]{1,40}$'),
    account_id bigint NOT NULL REFERENCES party,
    problem text NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (job, account_id)
);

-- No further try follows this one: an event has told of it.
ALTER TABLE invoice_mail ADD COLUMN final boolean NOT NULL DEFAULT false;
-- When the worker put the PDF into its folder.
ALTER TABLE invoice_document ADD COLUMN written_at timestamptz;
CREATE INDEX invoice_issued_at ON invoice (issued_at);

-- A report that is mailed again and again, with the eyes of its owner.
CREATE TABLE report_schedule (
    schedule_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id bigint NOT NULL REFERENCES party,
    report text NOT NULL,
    period text NOT NULL DEFAULT '',                -- last-month …; '': the report's own
    group_by text[] NOT NULL DEFAULT '{}',
    parameters jsonb NOT NULL DEFAULT '{}',         -- as people type them
    format text NOT NULL CHECK (format IN ('html', 'pdf', 'csv', 'xlsx', 'json')),
    recipients text[] NOT NULL CHECK (cardinality(recipients) BETWEEN 1 AND 20),
    rhythm text NOT NULL CHECK (rhythm IN ('daily', 'weekly', 'monthly')),
    day smallint NOT NULL CHECK (CASE rhythm WHEN 'daily' THEN day = 0
                                             WHEN 'weekly' THEN day BETWEEN 1 AND 7
                                             ELSE day BETWEEN 1 AND 31 END),
    hour smallint NOT NULL CHECK (hour BETWEEN 0 AND 23),
    language text NOT NULL DEFAULT '',              -- '': the owner's
    time_zone text NOT NULL DEFAULT '',             -- likewise
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    removed_at timestamptz,                         -- its log stays
    -- The next run, or the one that is being tried: for whom it still is, and how often it was.
    due_at timestamptz NOT NULL,
    try_at timestamptz NOT NULL,
    tries integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    waiting text[] NOT NULL DEFAULT '{}',
    problem text NOT NULL DEFAULT ''                -- of the last run; told once
);
CREATE INDEX report_schedule_try ON report_schedule (try_at) WHERE active AND removed_at IS NULL;
CREATE INDEX report_schedule_owner ON report_schedule (owner_id);

-- One line for each try.
CREATE TABLE report_mail (
    report_mail_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_id bigint NOT NULL REFERENCES report_schedule,
    due_at timestamptz NOT NULL,                    -- which run it was
    at timestamptz NOT NULL,
    recipients text[] NOT NULL,                     -- that the mail server took it for
    subject text NOT NULL,
    octets bigint NOT NULL CHECK (octets >= 0),     -- of the report
    message_id text NOT NULL,
    problem text NOT NULL
);
CREATE INDEX report_mail_schedule ON report_mail (schedule_id, at);
CREATE INDEX report_mail_at ON report_mail (at);

-- Written by the owner's role, once storage.viewer has allowed it.
ALTER TABLE invoice_schedule ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_problem ENABLE ROW LEVEL SECURITY;
ALTER TABLE report_schedule ENABLE ROW LEVEL SECURITY;
ALTER TABLE report_mail ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON invoice_schedule, job_problem, report_schedule, report_mail TO sky_aaa_viewer;
CREATE POLICY viewer_sees ON invoice_schedule FOR SELECT TO sky_aaa_viewer
    USING (issuer_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON job_problem FOR SELECT TO sky_aaa_viewer
    USING (account_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON report_schedule FOR SELECT TO sky_aaa_viewer
    USING (owner_id IN (SELECT account_id FROM account));
CREATE POLICY viewer_sees ON report_mail FOR SELECT TO sky_aaa_viewer
    USING (schedule_id IN (SELECT schedule_id FROM report_schedule));
