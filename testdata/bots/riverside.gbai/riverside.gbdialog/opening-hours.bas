DESCRIPTION "Tell opening hours, holidays and how to get here"

holidays = GET "riverside.gbdrive/holidays.csv"
today = FORMAT(NOW(), "yyyy-MM-dd")

FOR EACH day IN holidays
    IF day.date = today THEN
        TALK "We are closed today: " + day.name + ". The out-of-hours service answers under the number on our door and on the website."
        RETURN
    END IF
NEXT

BEGIN TALK
Monday to Thursday 8:00 to 12:30 and 14:00 to 18:00, Friday 8:00 to 13:00.
Blood samples 7:30 to 9:30, without an appointment, fasting.
Tram 4 stops at Riverside Bridge, two minutes on foot. The lift is at the back entrance.
END TALK
