-- The embedded database of a bot host, as sqlite3 writes it: rm -f bots/botserver.db && sqlite3 bots/botserver.db < bots.sql
-- Everything follows from row numbers, so that two runs give the same rows. Nobody in it is real.
PRAGMA page_size = 4096;
PRAGMA journal_mode = DELETE;
BEGIN;

CREATE TABLE bots (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, title TEXT NOT NULL, created_at TEXT NOT NULL, active INTEGER NOT NULL DEFAULT 1);
CREATE TABLE bot_configuration (bot_id TEXT NOT NULL REFERENCES bots(id), key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (bot_id, key)) WITHOUT ROWID;
CREATE TABLE users (id TEXT PRIMARY KEY, username TEXT NOT NULL UNIQUE, email TEXT NOT NULL, role TEXT NOT NULL, created_at TEXT NOT NULL, last_seen_at TEXT);
CREATE TABLE user_sessions (id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users(id), bot_id TEXT NOT NULL REFERENCES bots(id), channel TEXT NOT NULL, title TEXT NOT NULL, created_at TEXT NOT NULL, closed_at TEXT);
CREATE TABLE message_history (id INTEGER PRIMARY KEY, session_id TEXT NOT NULL REFERENCES user_sessions(id), role TEXT NOT NULL CHECK (role IN ('user', 'assistant', 'tool')), content TEXT NOT NULL, message_index INTEGER NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE kb_documents (id INTEGER PRIMARY KEY, bot_id TEXT NOT NULL REFERENCES bots(id), path TEXT NOT NULL, bytes INTEGER NOT NULL, chunks INTEGER NOT NULL, indexed_at TEXT NOT NULL);
CREATE TABLE system_automations (id INTEGER PRIMARY KEY, bot_id TEXT NOT NULL REFERENCES bots(id), script TEXT NOT NULL, schedule TEXT NOT NULL, last_run TEXT, last_status TEXT);
CREATE INDEX idx_sessions_user ON user_sessions(user_id);
CREATE INDEX idx_messages_session ON message_history(session_id, message_index);

INSERT INTO bots VALUES
 ('7d1c0a52-0f5e-4a53-9d39-5b0b7f0a1101', 'riverside', 'Riverside Clinic', '2025-05-12T08:00:00Z', 1),
 ('7d1c0a52-0f5e-4a53-9d39-5b0b7f0a1102', 'trailhead', 'Trailhead Outfitters', '2025-06-03T09:30:00Z', 1),
 ('7d1c0a52-0f5e-4a53-9d39-5b0b7f0a1103', 'helpdesk', 'IT Helpdesk', '2025-04-22T07:15:00Z', 1);
INSERT INTO bot_configuration SELECT id, 'llm-model', 'default' FROM bots;
INSERT INTO bot_configuration SELECT id, 'language', 'en' FROM bots;
INSERT INTO bot_configuration SELECT id, 'max-history', CASE name WHEN 'riverside' THEN '24' WHEN 'trailhead' THEN '40' ELSE '12' END FROM bots;
INSERT INTO system_automations (bot_id, script, schedule, last_run, last_status) VALUES
 ('7d1c0a52-0f5e-4a53-9d39-5b0b7f0a1101', 'reminders.bas', '0 15 * * 1-5', '2026-02-27T15:00:02Z', 'completed'),
 ('7d1c0a52-0f5e-4a53-9d39-5b0b7f0a1102', 'nightly-stock.bas', '30 2 * * *', '2026-02-28T02:30:01Z', 'completed'),
 ('7d1c0a52-0f5e-4a53-9d39-5b0b7f0a1102', 'weekly-campaign.bas', '0 7 * * 1', '2026-02-23T07:00:01Z', 'completed'),
 ('7d1c0a52-0f5e-4a53-9d39-5b0b7f0a1103', 'backup.bas', '0 2 * * *', '2026-02-28T02:00:01Z', 'completed');

-- What people ask each bot, and what it answers. %d is a small number, %s a thing of that trade.
CREATE TEMP TABLE talk (bot TEXT, n INTEGER, ask TEXT, answer TEXT);
INSERT INTO talk VALUES
 ('riverside', 0, 'Can I have an appointment for a %s next week?', 'I can offer Tuesday at %d:15 or Thursday at %d:45 for a %s. Which suits you?'),
 ('riverside', 1, 'Do I have to fast before the blood sample?', 'Yes, ten hours. Water, tea and black coffee without sugar are fine. Samples are taken from 7:30 to 9:30; you are number %d of the day if you come then.'),
 ('riverside', 2, 'I need a new prescription, %d packs.', 'The request is with the doctor. It is ready the next working day after 11:00, on paper or on your card.'),
 ('riverside', 3, 'When do the results of my %s arrive?', 'Blood counts the next working day, hormones after two to three days, cultures within five. You find them in the portal after 16:00.'),
 ('riverside', 4, 'I have to cancel, sorry. It was the %s.', 'Cancelled. There are %d people on the waiting list who will be glad. Shall I look for another day?'),
 ('riverside', 5, 'My child has had a fever for %d days.', 'I cannot judge that. The nurse calls you back within the hour; with trouble breathing or a stiff neck call the emergency number now.'),
 ('riverside', 6, 'How do I get to you without stairs?', 'The lift is at the back entrance, beside the bicycle stands. Ring, and somebody opens within %d minutes.'),
 ('trailhead', 0, 'I am looking for a %s for a week from hut to hut.', 'Three that fit: the Karst Mid if your pack stays under %d kg, the Brenta Ridge if it does not, and your old one with a new sole if it is a %s that can be resoled.'),
 ('trailhead', 1, 'Where is my order? It has been %d days.', 'The carrier saw it last in the depot at 4:12 this morning. If it has not come by tomorrow evening I open a search.'),
 ('trailhead', 2, 'The %s is too small. Can I send it back?', 'Of course, sixty days, with labels on. The return label is in your mail; for shoes please use the original box.'),
 ('trailhead', 3, 'Is a %s with a membrane better?', 'For wet meadows and spring yes. In a hot summer on limestone one without dries faster. You said %d degrees, so I would leave it.'),
 ('trailhead', 4, 'What does a new sole cost?', 'Seventy-five euros and about %d weeks. We call before we begin if it would come to more than half of the new price.'),
 ('trailhead', 5, 'How much water should I carry for %d hours?', 'Half a litre an hour in mild weather, a litre in the heat. The two springs on that route are dry in August.'),
 ('trailhead', 6, 'Do you have the %s in moss?', 'Not at the moment; %d are expected on Thursday. Shall I write to you when they are here?'),
 ('helpdesk', 0, 'I cannot sign in, it says the password is wrong, and I have tried it %d times.', 'Your account is locked for fifteen minutes after five attempts. I can reset it now: I send a code to the phone in your staff record.'),
 ('helpdesk', 1, 'The %s does not work.', 'That is known since 8:40 and affects floor %d. I have added you to the ticket; you will hear from us when it moves.'),
 ('helpdesk', 2, 'VPN connects but nothing opens.', 'Please look at the clock of your laptop: more than two minutes off and the file servers refuse you without a word. Yours is %d minutes behind.'),
 ('helpdesk', 3, 'Can you restore a file? I deleted the %s list yesterday.', 'The backup of 02:00 has it. I restored it beside the original folder, named with the date; nothing else was touched.'),
 ('helpdesk', 4, 'Is the %s down for everyone?', 'No, it answers from here within %d milliseconds. Try another network; if that helps, it is the access point near you.'),
 ('helpdesk', 5, 'When do I get a new laptop?', 'Yours is %d years old and due after four. You can book the exchange yourself; bring the dock.'),
 ('helpdesk', 6, 'What happened to the %s last night?', 'A certificate expired at 01:07 and was renewed at 01:32. Jobs that failed in between have been run again, all of them green.');
CREATE TEMP TABLE thing (bot TEXT, n INTEGER, name TEXT);
INSERT INTO thing VALUES
 ('riverside', 0, 'check-up'), ('riverside', 1, 'vaccination'), ('riverside', 2, 'consultation'), ('riverside', 3, 'long-term blood pressure'), ('riverside', 4, 'travel advice'),
 ('trailhead', 0, 'boot'), ('trailhead', 1, 'rain jacket'), ('trailhead', 2, 'two-person tent'), ('trailhead', 3, 'sleeping bag'), ('trailhead', 4, 'pack of 45 litres'),
 ('helpdesk', 0, 'printer'), ('helpdesk', 1, 'wiki'), ('helpdesk', 2, 'shared calendar'), ('helpdesk', 3, 'git server'), ('helpdesk', 4, 'phone at reception');

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 180)
INSERT INTO users SELECT
 printf('%08x-%04x-4000-8000-%012x', (i * 2654435761) & 0xffffffff, (i * 40503) & 0xffff, i * 7919),
 printf('%s%03d', CASE WHEN i % 9 = 0 THEN 'staff' ELSE 'guest' END, i),
 printf('%s%03d@people.example', CASE WHEN i % 9 = 0 THEN 'staff' ELSE 'guest' END, i),
 CASE WHEN i = 9 THEN 'admin' WHEN i = 18 THEN 'backup_operator' WHEN i % 9 = 0 THEN 'attendant' ELSE 'user' END,
 strftime('%Y-%m-%dT%H:%M:%SZ', '2025-06-01', '+' || (i * 31) || ' hours'),
 CASE WHEN i % 7 = 0 THEN NULL ELSE strftime('%Y-%m-%dT%H:%M:%SZ', '2026-01-01', '+' || ((i * 137) % 1390) || ' hours') END
FROM n;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 290)
INSERT INTO user_sessions SELECT
 printf('%08x-%04x-4000-9000-%012x', (i * 2246822519) & 0xffffffff, (i * 50021) & 0xffff, i * 104729),
 (SELECT id FROM (SELECT id, row_number() OVER (ORDER BY username) - 1 AS r FROM users) WHERE r = (i * 53) % 180),
 (SELECT id FROM (SELECT id, row_number() OVER (ORDER BY name) - 1 AS r FROM bots) WHERE r = (i * 7 + i / 5) % 3),
 CASE i % 5 WHEN 0 THEN 'whatsapp' WHEN 1 THEN 'mail' ELSE 'web' END,
 printf('Conversation %d', i),
 strftime('%Y-%m-%dT%H:%M:%SZ', '2025-09-01', '+' || (i * 887) || ' minutes', '+' || ((i * 37) % 60) || ' seconds'),
 CASE WHEN i > 278 THEN NULL ELSE strftime('%Y-%m-%dT%H:%M:%SZ', '2025-09-01', '+' || (i * 887 + 14) || ' minutes') END
FROM n;

-- Two to five questions a conversation, each with its answer.
WITH RECURSIVE turn(t) AS (SELECT 0 UNION ALL SELECT t + 1 FROM turn WHERE t < 4),
 numbered AS (SELECT s.id, s.created_at, b.name AS bot, row_number() OVER (ORDER BY s.created_at) AS i FROM user_sessions s JOIN bots b ON b.id = s.bot_id),
 line AS (
  SELECT c.id, c.created_at, c.i, t, k.ask, k.answer, g.name AS thing, 2 + (c.i * 11 + t * 5) % 9 AS number
  FROM numbered c, turn
  JOIN talk k ON k.bot = c.bot AND k.n = (c.i * 3 + t * 5) % 7
  JOIN thing g ON g.bot = c.bot AND g.n = (c.i + t * 2) % 5
  WHERE t < 2 + c.i % 4)
INSERT INTO message_history (session_id, role, content, message_index, created_at)
SELECT id, role, content, message_index, at FROM (
 SELECT id, i, 'user' AS role, replace(replace(ask, '%s', thing), '%d', number) AS content, 2 * t AS message_index,
  strftime('%Y-%m-%dT%H:%M:%SZ', created_at, '+' || (t * 95) || ' seconds') AS at FROM line
 UNION ALL
 SELECT id, i, 'assistant', replace(replace(answer, '%s', thing), '%d', number), 2 * t + 1,
  strftime('%Y-%m-%dT%H:%M:%SZ', created_at, '+' || (t * 95 + 3 + number) || ' seconds') FROM line)
ORDER BY i, message_index;

INSERT INTO kb_documents (bot_id, path, bytes, chunks, indexed_at)
SELECT b.id, p.path, p.bytes, 1 + p.bytes / 900, '2026-02-14T03:00:00Z' FROM (
 SELECT 'riverside' AS bot, 'riverside.gbkb/patients/first-visit.md' AS path, 1530 AS bytes
 UNION ALL SELECT 'riverside', 'riverside.gbkb/patients/appointments.md', 1560
 UNION ALL SELECT 'riverside', 'riverside.gbkb/services/vaccinations.md', 1340
 UNION ALL SELECT 'trailhead', 'trailhead.gbkb/guides/choosing-boots.md', 1710
 UNION ALL SELECT 'trailhead', 'trailhead.gbkb/policies/returns.md', 990
 UNION ALL SELECT 'helpdesk', 'helpdesk.gbkb/runbooks/disk-full.md', 1010
 UNION ALL SELECT 'helpdesk', 'helpdesk.gbkb/runbooks/restore.md', 1450) p JOIN bots b ON b.name = p.bot;

COMMIT;
VACUUM;
