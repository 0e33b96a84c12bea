PARAM patientName AS STRING LIKE "A. Patient" DESCRIPTION "Name as on the insurance card"
PARAM birthDate AS DATE LIKE "1980-05-17" DESCRIPTION "Date of birth, to be sure who is asking"

DESCRIPTION "Move or cancel an appointment after the date of birth has been confirmed"

found = FIND ALL "appointments", "patient='" + patientName + "' AND birth_date='" + birthDate + "' AND cancelled=false"
IF UBOUND(found) = 0 THEN
    TALK "I find no open appointment under that name and date of birth. The front desk can look by insurance number."
    RETURN
END IF

appointment = FIRST(found)
hours = DATEDIFF("hour", NOW(), appointment.starts_at)
IF hours < 24 THEN
    TALK "Your appointment begins in " + hours + " hours. You may cancel, but within 24 hours we ask you to call so that we can offer the time to someone else."
END IF

TALK "Shall I cancel it, or move it to another day?"
HEAR wish AS "cancel", "move"
UPDATE "slots", "id=" + appointment.slot, "taken=false"
UPDATE "appointments", "id=" + appointment.id, "cancelled=true, cancelled_at=" + NOW()

IF wish = "move" THEN
    CALL "book-appointment"
ELSE
    TALK "Cancelled. Get well, or stay well."
END IF

next = FIRST(FIND ALL "waiting_list", "service=" + appointment.service + " ORDER BY created_at LIMIT 1")
IF next IS NOT NULL THEN
    SEND MAIL next.email, "A slot has opened at Riverside Clinic", "The appointment you were waiting for is free. Answer within two hours to take it."
END IF
