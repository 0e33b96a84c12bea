DESCRIPTION "Reset the password of the signed-in user after a second factor"

TALK "I send a code to the phone number in your staff record. Please type it here."
code = SEND CODE USER.phone
HEAR typed
tries = 1
WHILE typed <> code AND tries < 3
    TALK "That is not the code. Once more, please."
    HEAR typed
    tries = tries + 1
WEND
IF typed <> code THEN
    TALK "Three times is enough. Please come to the desk on floor 1 with your badge."
    SAVE "audit", UUID(), USER.id, "password_reset_refused", NOW()
    RETURN
END IF

result = POST "https://directory.example/users/" + USER.id + "/reset", #{ "notify": true }
IF result.status = 200 THEN
    TALK "The directory has sent you a link. It works for fifteen minutes and once."
ELSE
    TALK "The directory did not answer. I have opened a ticket for you."
    CALL "create-ticket"
END IF
