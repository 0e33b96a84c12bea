SET SCHEDULE "0 7 * * 1"

weather = GET "https://weather.example/forecast?days=7"
rain = 0
FOR EACH day IN weather
    IF day.rain_mm > 4 THEN
        rain = rain + 1
    END IF
NEXT

IF rain >= 4 THEN
    SET BOT MEMORY "campaign", "A wet week. Wash-in proofing is a third off, and it does more than a new jacket."
ELSE IF weather[0].high > 26 THEN
    SET BOT MEMORY "campaign", "Hot days: filters and hats are by the door. Start early, carry a litre more than you think."
ELSE
    SET BOT MEMORY "campaign", ""
END IF
