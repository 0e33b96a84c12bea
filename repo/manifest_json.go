package repo

// The other direction is encoding/json with the field tags; a test holds the
// two against each other, field by field.

func (m *Manifest) read(r *jsonReader) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "id":
			m.ID = r.string()
		case "type":
			m.Type = r.string()
		case "base_id":
			m.BaseID = r.string()
		case "created_at":
			m.CreatedAt = r.time()
		case "started_at":
			m.StartedAt = r.time()
		case "finished_at":
			m.FinishedAt = r.time()
		case "host":
			m.Host = r.string()
		case "tags":
			r.array(maxTags, func() { m.Tags = append(m.Tags, r.string()) })
		case "program":
			m.Program = r.string()
		case "status":
			m.Status = r.string()
		case "parts":
			r.array(maxParts, func() {
				m.Parts = append(m.Parts, Part{})
				m.Parts[len(m.Parts)-1].read(r)
			})
		case "totals":
			m.Totals.read(r)
		case "problems":
			r.array(maxProblems, func() { m.Problems = append(m.Problems, r.problem()) })
		case "problem_count":
			m.ProblemCount = r.uint(64)
		default:
			return false
		}
		return true
	})
}

func (p *Part) read(r *jsonReader) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "source":
			p.Source = r.string()
		case "kind":
			p.Kind = r.string()
		case "profile":
			p.Profile = r.string()
		case "paths":
			r.array(MaxPaths, func() { p.Paths = append(p.Paths, r.bytes()) })
		case "exclude":
			r.array(maxPatterns, func() { p.Exclude = append(p.Exclude, r.string()) })
		case "exclude_caches":
			p.ExcludeCaches = r.bool()
		case "one_file_system":
			p.OneFileSystem = r.bool()
		case "started_at":
			p.StartedAt = r.time()
		case "finished_at":
			p.FinishedAt = r.time()
		case "base_id":
			p.BaseID = r.string()
		case "generation":
			p.Generation = r.uint(64)
		case "notes":
			r.array(maxNotes, func() { p.Notes = append(p.Notes, r.string()) })
		case "failed":
			p.Failed = r.bool()
		case "root":
			p.Root = r.bytes()
		case "counts":
			p.Counts.read(r)
		default:
			return false
		}
		return true
	})
}

func (c *Counts) read(r *jsonReader) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "files":
			c.Files = r.uint(64)
		case "dirs":
			c.Dirs = r.uint(64)
		case "new":
			c.New = r.uint(64)
		case "changed":
			c.Changed = r.uint(64)
		case "removed":
			c.Removed = r.uint(64)
		case "unchanged":
			c.Unchanged = r.uint(64)
		case "bytes_total":
			c.BytesTotal = r.size()
		case "bytes_read":
			c.BytesRead = r.size()
		case "bytes_new":
			c.BytesNew = r.size()
		case "bytes_stored":
			c.BytesStored = r.size()
		default:
			return false
		}
		return true
	})
}

func (r *jsonReader) problem() (p Problem) {
	r.object(func(key []byte) bool {
		switch string(key) {
		case "path":
			p.Path = r.bytes()
		case "op":
			p.Op = r.string()
		case "text":
			p.Text = r.string()
		default:
			return false
		}
		return true
	})
	return p
}
