PARAM patientName AS STRING LIKE "A. Patient" DESCRIPTION "Name as on the insurance card"
PARAM birthDate AS DATE LIKE "1980-05-17" DESCRIPTION "Date of birth"
PARAM medicine AS STRING LIKE "Levothyroxine 75" DESCRIPTION "Name and strength as printed on the pack"

DESCRIPTION "Ask the doctor for a repeat prescription"

last = FIND "prescriptions", "patient='" + patientName + "' AND medicine LIKE '" + medicine + "%'"
IF last IS NULL THEN
    TALK "We have not prescribed this to you before, so it needs an appointment."
    CALL "book-appointment"
    RETURN
END IF
IF DATEDIFF("day", last.last_visit, NOW()) > 365 THEN
    TALK "The last check-up for this medicine is more than a year ago. Let us book one first."
    CALL "book-appointment"
    RETURN
END IF

requestId = UUID()
SAVE "prescription_requests", requestId, patientName, birthDate, medicine, NOW(), "open"
TALK "Your request is with the doctor. It is ready the next working day after 11:00, on paper at the desk or as an e-prescription on your card."
