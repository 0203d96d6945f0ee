-- A gateway's Acct-Session-Id, kept as the other name of calls whose key is the conference
-- that all their legs share: its reports may tell nothing else. Keys of other calls have no
-- four groups, so they are not in the indexes and pay nothing for them.

CREATE INDEX call_conference ON call (client_id, sip_call_id)
    WHERE session_key LIKE '% % % %';
CREATE INDEX cdr_conference ON cdr (client_id, sip_call_id)
    WHERE session_key LIKE '% % % %';
