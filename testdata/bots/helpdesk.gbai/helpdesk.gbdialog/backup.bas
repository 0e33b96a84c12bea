REM Nightly backup of the bot host, with a word to the on-call person when it did not end well
SET SCHEDULE "0 2 * * *"

base = "https://backup.helpdesk.example"
result = POST base + "/api/v1/backup/create", #{ "type": "incremental", "include_files": true, "include_database": true }

IF result.status <> 201 THEN
    SEND MAIL "oncall@helpdesk.example", "Backup could not be queued", TOJSON(result)
    RETURN
END IF

WAIT 1800
list = GET base + "/api/v1/backup/list"
text = ""
FOR EACH b IN list
    text = text + b.id + " " + b.created_at + " " + b.size + "\n"
NEXT
SET BOT MEMORY "last_backup", result.data.backup_id
SEND MAIL "oncall@helpdesk.example", "Backups this morning", text
