' Lists the newest backups. GET hands on the text of the answer, and parse_json takes objects only, hence the wrapping.
base = "http://bot:TOKEN@backup.internal:9000/api/v1/backup"

text = GET base + "/list?limit=20"
answer = parse_json("{\"backups\":" + text + "}")
FOR EACH backup IN answer.backups
    TALK backup.id + " - " + backup.created_at + " (" + backup.size + ")"
NEXT backup
