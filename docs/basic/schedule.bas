' Has an incremental backup made at two each night and kept for 30 days. Needs the token of an admin; run it once.
base = "http://bot:TOKEN@backup.internal:9000/api/v1/backup"

result = POST base + "/schedule", #{"cron": "0 2 * * *", "type": "incremental", "retention_days": 30}
IF result.status >= 400 THEN
    TALK "No schedule: " + result.data.message
ELSE
    TALK "Scheduled as " + result.data.schedule_id + ", next at " + result.data.next_run
END IF
