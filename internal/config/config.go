package config

import "time"

// Config is the whole file.
type Config struct {
	// Listen is where the API answers: "host:port", port 0 for any that is free, or
	// "unix:/path/to/socket". Beyond the loopback addresses it needs tls.
	Listen string `yaml:"listen"`
	// TLS are certificate and key of the API. Without it the API speaks plain HTTP, on this host only.
	TLS *TLS `yaml:"tls"`
	// Repository is where backups are kept.
	Repository Repository `yaml:"repository"`
	// StateDir holds jobs, schedules, tokens, the audit log and the index. Not in the repository, nor, but for Temporary, in /tmp or
	// /var/tmp.
	StateDir string `yaml:"state_dir"`
	// Temporary lets repository, state_dir and targets lie in /tmp and /var/tmp, which are swept: for trying out.
	Temporary bool `yaml:"temporary"`
	// Sources are what is backed up, at least one.
	Sources []Source `yaml:"sources"`
	// Targets are where a restore may land, by name. Restores of the API go to these and nowhere else.
	Targets map[string]Target `yaml:"targets"`
	// Auth says who may call. Tokens made by "backupd token create" always work; jwt and oidc are added to them.
	Auth Auth `yaml:"auth"`
	// SchedulesTimezone is the time zone of schedules that name none: a name like Europe/Berlin, or UTC.
	SchedulesTimezone string `yaml:"schedules_timezone"`
	// GC frees the space of expired and deleted backups.
	GC GC `yaml:"gc"`
	// Retention bounds what expiry may take.
	Retention Retention `yaml:"retention"`
	// Verify says when backups are read again.
	Verify Verify `yaml:"verify"`
	// Limits bound what callers can make the daemon do.
	Limits Limits `yaml:"limits"`
	// Memory is what the daemon tries to stay below, 128 MiB at least.
	Memory Size `yaml:"memory"`
	// Log is about the log on stderr.
	Log Log `yaml:"log"`

	file string
	line map[string]int // of every key that stands in the file, by its path
}

// TLS names the files of a certificate.
type TLS struct {
	// CertFile is the certificate with its chain, PEM.
	CertFile string `yaml:"cert_file"`
	// KeyFile is the certificate's key, PEM, closed to others.
	KeyFile string `yaml:"key_file"`
}

// Repository says where the repository is and what opens it: exactly one of the two files.
type Repository struct {
	// Path is the directory of the repository.
	Path string `yaml:"path"`
	// KeyFile holds the key that "backupd repo init" made.
	KeyFile string `yaml:"key_file"`
	// PassphraseFile holds the passphrase, on one line.
	PassphraseFile string `yaml:"passphrase_file"`
}

// The kinds of a source.
const (
	KindFiles    = "files"
	KindSQLite   = "sqlite"
	KindPostgres = "postgres" // understood, and refused by Check: comes with a later version
	KindS3       = "s3"       // likewise
)

// Source is one thing that is backed up.
type Source struct {
	// Name is how requests and reports call it: a-z, 0-9 and -, 63 characters at most, no other source's.
	Name string `yaml:"name"`
	// Kind is files, sqlite, postgres or s3.
	Kind string `yaml:"kind"`
	// Paths are the files and directories of kind files, the database files of kind sqlite.
	Paths []string `yaml:"paths"`
	// Exclude are patterns of what kind files leaves out.
	Exclude []string `yaml:"exclude"`
	// ExcludeCaches leaves out directories marked by a CACHEDIR.TAG.
	ExcludeCaches bool `yaml:"exclude_caches"`
	// OneFileSystem stays on the file systems of the paths.
	OneFileSystem bool `yaml:"one_file_system"`
	// Profile is how the repository cuts it: files, database or media. Without one: database for databases, else files.
	Profile string `yaml:"profile"`
	// Hooks are programs run around the source.
	Hooks *Hooks `yaml:"hooks"`
	// DSNFile holds the connection string of kind postgres.
	DSNFile string `yaml:"dsn_file"`
	// Endpoint is the URL of kind s3.
	Endpoint string `yaml:"endpoint"`
	// CredentialsFile holds the keys of kind s3.
	CredentialsFile string `yaml:"credentials_file"`
}

// Hooks are programs, each a list of its absolute path and its arguments. There is
// no shell: whoever wants one says [/bin/sh, -c, "..."].
type Hooks struct {
	// Before runs before the source is read; when it fails, the source is not read.
	Before []string `yaml:"before"`
	// After runs when the source was read, also when that, or before, failed.
	After []string `yaml:"after"`
	// Timeout is how long each may take before it is ended, 24h at most.
	Timeout time.Duration `yaml:"timeout"`
}

// Target is a place where a restore may land.
type Target struct {
	// Path is the directory for files. It lies in no source, not in the repository and not in the state directory,
	// nor they in it, nor, but for Temporary, in /tmp or /var/tmp, which are swept.
	Path string `yaml:"path"`
	// Postgres is the server for databases. Understood, and refused by Check: comes with a later version.
	Postgres *PostgresTarget `yaml:"postgres"`
}

// PostgresTarget is a server on which databases are restored beside those in use.
type PostgresTarget struct {
	// DSNFile holds the connection string.
	DSNFile string `yaml:"dsn_file"`
	// Prefix is put before the names of restored databases.
	Prefix string `yaml:"prefix"`
}

// Auth says who may call besides the holders of tokens.
type Auth struct {
	// JWT accepts HS256 tokens as botserver signs them.
	JWT *JWT `yaml:"jwt"`
	// OIDC asks an OpenID provider about tokens.
	OIDC *OIDC `yaml:"oidc"`
	// AdminRoles are further roles that count as admin, compared whole and without regard to case.
	AdminRoles []string `yaml:"admin_roles"`
}

// JWT is the secret shared with botserver.
type JWT struct {
	// SecretFile holds the secret, 32 bytes at least.
	SecretFile string `yaml:"secret_file"`
	// Issuer is the iss a token must have.
	Issuer string `yaml:"issuer"`
	// Audience is the aud a token must have.
	Audience string `yaml:"audience"`
}

// OIDC is an OpenID provider.
type OIDC struct {
	// Issuer is the provider's URL.
	Issuer string `yaml:"issuer"`
	// CAFile holds the authorities that the provider's certificate may come from, PEM, instead of the system's.
	CAFile string `yaml:"ca_file"`
	// Introspection is where tokens are asked about (RFC 7662).
	Introspection *Introspection `yaml:"introspection"`
}

// Introspection is an endpoint after RFC 7662 and what opens it.
type Introspection struct {
	// URL is the endpoint; https, or http on this host.
	URL string `yaml:"url"`
	// ClientID is who asks.
	ClientID string `yaml:"client_id"`
	// ClientSecretFile holds the client's secret.
	ClientSecretFile string `yaml:"client_secret_file"`
}

// GC says when space is freed.
type GC struct {
	// Schedule is a cron expression of five fields, @daily and the like, or never.
	Schedule string `yaml:"schedule"`
	// MinFree is the free space of the repository's file system below which gc runs at once; 0 for never.
	MinFree Size `yaml:"min_free"`
}

// Retention bounds what expiry may take.
type Retention struct {
	// Minimum is how many complete backups are kept whatever has expired, 1 at least.
	Minimum int `yaml:"minimum"`
}

// Verify says when backups are read again.
type Verify struct {
	// AfterBackup reads every backup right after it was made: all that restoring it needs.
	AfterBackup bool `yaml:"after_backup"`
	// Every is after what time the whole repository is read again, 1h at least; 0 for never.
	Every time.Duration `yaml:"every"`
}

// Limits bound what callers can make the daemon do, what it remembers of it, and what its jobs take from others on the host.
type Limits struct {
	// Connections is how many may be open at a time; a quarter of them from one address that is not of this host.
	Connections int `yaml:"connections"`
	// BodySize is the greatest request body.
	BodySize Size `yaml:"body_size"`
	// RequestsPerSecond is how many one caller may send, which is a token or user at one address; twice as many at once.
	RequestsPerSecond int `yaml:"requests_per_second"`
	// AuthFailuresPerMinute is how many wrong credentials one address may send.
	AuthFailuresPerMinute int `yaml:"auth_failures_per_minute"`
	// QueuedJobs is how many jobs may wait.
	QueuedJobs int `yaml:"queued_jobs"`
	// ParallelRestores is how many restores and verifications run beside a backup.
	ParallelRestores int `yaml:"parallel_restores"`
	// JobHistory is how long finished jobs are remembered, 24h at least. The job of a backup is as long as the backup is there.
	JobHistory time.Duration `yaml:"job_history"`
	// IO is how many bytes a second jobs read and write, all together: of sources, of the repository, to targets; 64 KiB
	// at least, 0 for as many as they can.
	IO Size `yaml:"io"`
	// CPU is how much of the processors jobs let the daemon use; 0 for as much as there is.
	CPU Cores `yaml:"cpu"`
	// Nice is added to the niceness of threads that back up, verify and collect: 0 to 19. Answers of the API keep theirs.
	Nice int `yaml:"nice"`
	// IOClass is the priority of those threads for the disk: normal, lowest or idle.
	IOClass string `yaml:"io_class"`
}

// Log is about the log on stderr.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is text or json.
	Format string `yaml:"format"`
}

// Zone is the time zone of schedules that name none.
func (c *Config) Zone() *time.Location {
	zone, err := time.LoadLocation(c.SchedulesTimezone)
	if err != nil { // Load has loaded it
		return time.UTC
	}
	return zone
}
