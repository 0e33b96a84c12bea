REM Internal IT helpdesk

ADD TOOL "create-ticket"
ADD TOOL "reset-password"
ADD TOOL "ticket-status"
ADD TOOL "service-status"
USE KB "runbooks"
USE KB "howto"

CLEAR SUGGESTIONS
ADD SUGGESTION "password" AS "I cannot sign in"
ADD SUGGESTION "ticket" AS "Something is broken"
ADD SUGGESTION "status" AS "Is it down for everyone?"

incident = GET BOT MEMORY("incident")
IF incident <> "" THEN
    TALK "We know about this and are on it: " + incident
END IF
TALK "What can I do for you?"
