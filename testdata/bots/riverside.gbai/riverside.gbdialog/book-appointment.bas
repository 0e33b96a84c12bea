PARAM patientName AS STRING LIKE "A. Patient" DESCRIPTION "Name as on the insurance card"
PARAM birthDate AS DATE LIKE "1980-05-17" DESCRIPTION "Date of birth"
PARAM reason AS STRING LIKE "check-up" DESCRIPTION "Reason for the visit in a few words"
PARAM wanted AS STRING LIKE "Tuesday morning" DESCRIPTION "When it would suit the patient"

DESCRIPTION "Find a free slot, confirm it with the patient and book it"

service = FIND "services", "keyword=" + LOWER(reason)
IF service IS NULL THEN
    service = FIND "services", "keyword=consultation"
END IF

slots = FIND ALL "slots", "service=" + service.code + " AND taken=false ORDER BY starts_at LIMIT 6"
IF UBOUND(slots) = 0 THEN
    TALK "There is no free slot for " + service.title + " in the next four weeks. I have put you on the waiting list; we call as soon as one opens."
    SAVE "waiting_list", UUID(), patientName, birthDate, service.code, wanted, NOW()
    RETURN
END IF

choice = LLM "The patient would like: " + wanted + ". Choose the best of these slots and answer with its number alone: " + TOJSON(slots)
slot = slots[choice]

TALK "I can offer " + FORMAT(slot.starts_at, "dddd, d MMMM, HH:mm") + " for " + service.title + " (" + service.minutes + " minutes). Shall I book it?"
HEAR answer AS BOOLEAN
IF answer = FALSE THEN
    TALK "No problem. Tell me another day or time of day."
    HEAR wanted
    RETURN
END IF

appointmentId = UUID()
WITH appointment
    id = appointmentId
    patient = patientName
    birth_date = birthDate
    service = service.code
    slot = slot.id
    created_at = NOW()
END WITH
SAVE "appointments", appointmentId, appointment
UPDATE "slots", "id=" + slot.id, "taken=true"

TALK "Booked. Please come ten minutes early and bring your insurance card."
IF service.leaflet <> "" THEN
    TALK "There is something to prepare. I am sending you the leaflet."
    SEND FILE service.leaflet
END IF
RETURN appointmentId
