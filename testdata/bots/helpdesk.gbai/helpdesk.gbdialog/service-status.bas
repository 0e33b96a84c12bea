DESCRIPTION "Ask every service how it feels"

services = GET "helpdesk.gbdrive/services.csv"
down = ""
FOR EACH s IN services
    answer = GET s.health_url
    IF answer.status <> "ok" THEN
        down = down + "* " + s.name + " (since " + answer.since + ")\n"
    END IF
NEXT
IF down = "" THEN
    TALK "Everything answers. If something does not work it may be closer to you: network, laptop, browser."
ELSE
    TALK "Not well at the moment:\n" + down
END IF
