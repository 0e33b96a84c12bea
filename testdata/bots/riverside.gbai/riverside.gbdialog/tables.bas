TABLE services
    code string(20) key
    title string(120)
    keyword string(60)
    minutes integer
    leaflet string(255)
END TABLE

TABLE slots
    id uuid key
    service string(20)
    room string(20)
    starts_at timestamp
    taken boolean
END TABLE

TABLE appointments
    id uuid key
    patient string(120)
    birth_date date
    service string(20)
    slot uuid
    channel string(10)
    contact string(255)
    confirmed boolean
    cancelled boolean
    created_at timestamp
    cancelled_at timestamp
END TABLE

TABLE waiting_list
    id uuid key
    patient string(120)
    birth_date date
    service string(20)
    wanted string(255)
    email string(255)
    created_at timestamp
END TABLE

TABLE prescription_requests
    id uuid key
    patient string(120)
    birth_date date
    medicine string(120)
    created_at timestamp
    status string(20)
END TABLE
