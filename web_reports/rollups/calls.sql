    SELECT spanned.*
      FROM spans_within('call', %(begin)s, %(end)s, %(widths)s, %(clock)s) AS part
     CROSS JOIN LATERAL (
           SELECT begins AS hour,
                  account_id,
                  resource_group_id, -- operator
                  rate_id,
                  prefix,
                  attempts,
                  answered,
                  effective,
                  refused,
                  seconds,
                  timed,
                  setup_ms,
                  longest_seconds
             FROM call_span
            WHERE width = part.width
              AND cut = %(span)s
              AND begins = part.begins
           OFFSET 0) AS spanned
     UNION ALL
    SELECT counted.*
      FROM hours_within('call', %(begin)s, %(end)s, %(widths)s, %(clock)s) AS part
     CROSS JOIN LATERAL (
           SELECT hour,
                  account_id,
                  resource_group_id, -- operator
                  rate_id,
                  prefix,
                  attempts,
                  answered,
                  effective,
                  refused,
                  seconds,
                  timed,
                  setup_ms,
                  longest_seconds
             FROM call_hour
            WHERE cut = %(cut)s
              AND hour >= part.begins
              AND hour < part.ends
           OFFSET 0) AS counted
     WHERE %(rolled)s
     UNION ALL
    SELECT hour,
           account_id,
           resource_group_id, -- operator
           rate_id,
           prefix,
           attempts,
           answered,
           effective,
           refused,
           seconds,
           timed,
           setup_ms,
           longest_seconds
      FROM uncounted_calls(%(begin)s, %(end)s, %(rolled)s)
     WHERE cut = %(cut)s
