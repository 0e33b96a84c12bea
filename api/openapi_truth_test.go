package api_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

// TestOpenAPI_ExamplesAreTrue: what stands there as an example is what the schema
// says, and what is to be sent is taken.
func TestOpenAPI_ExamplesAreTrue(t *testing.T) {
	h := furnished(t, nil)
	h.run()
	c := readContract(t)
	schedule := h.want(201, h.admin, "POST", at+"/schedule", `{"cron":"@daily"}`).decode(t)["id"].(string)
	plain := func(v any) (out any) { // as it is after a way over the wire
		data, err := json.Marshal(v)
		must(t, err)
		must(t, json.Unmarshal(data, &out))
		return out
	}
	sent, shown := 0, 0
	for name, op := range c.operations() {
		if op["summary"] == nil || op["description"] == nil || op["tags"] == nil {
			t.Errorf("%s is not described", name)
		}
		method, path, _ := strings.Cut(name, " ")
		path = strings.NewReplacer("{backup_id}", h.first, "{schedule_id}", schedule).Replace(path)
		examples, _ := at2(op, "requestBody", "content", "application/json", "examples").(map[string]any)
		for what, e := range examples {
			body, err := json.Marshal(at2(e, "value"))
			must(t, err)
			// The next restore to a target waits for this one.
			query := map[bool]string{true: "?wait=60"}[strings.Contains(path, "/restore/")]
			if g := h.do(h.admin, method, path+query, string(body)); g.status >= 300 {
				t.Errorf("%s: the example %q is answered with %d %s", name, what, g.status, g.body)
			}
			c.value(name+" "+what, at2(op, "requestBody", "content", "application/json", "schema").(map[string]any), plain(at2(e, "value")))
			sent++
		}
		if op["requestBody"] != nil && len(examples) == 0 {
			t.Errorf("%s: nothing shows what to send", name)
		}
		for status, raw := range op["responses"].(map[string]any) {
			response, _ := c.resolve(raw.(map[string]any))
			json, ok := at2(response, "content", "application/json").(map[string]any)
			if !ok {
				continue
			}
			if json["example"] == nil {
				t.Errorf("%s: nothing shows the answer %s", name, status)
				continue
			}
			c.value(name+" "+status, json["schema"].(map[string]any), plain(json["example"]))
			shown++
		}
	}
	if sent < 8 || shown < 190 {
		t.Errorf("%d requests and %d answers were looked at", sent, shown)
	}
	for name, p := range at2(c.root, "components", "parameters").(map[string]any) {
		if at2(p, "description") == nil {
			t.Errorf("the parameter %s is not described", name)
		}
	}
	for name, schema := range at2(c.root, "components", "schemas").(map[string]any) {
		properties, _ := at2(schema, "properties").(map[string]any)
		for field, p := range properties {
			if at2(p, "description") == nil && at2(p, "$ref") == nil {
				t.Errorf("%s.%s is not described", name, field)
			}
		}
	}
}

// missed takes one thing after the other out of the description, and returns those
// that no answer kept by this contract misses.
func (c *contract) missed() (unnoticed []string, tried int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	noticed := false
	was := c.wrong
	c.wrong = func(string, ...any) { noticed = true }
	defer func() { c.wrong = was }()
	try := func(what string, from map[string]any, key string) {
		value := from[key]
		delete(from, key)
		defer func() { from[key] = value }()
		noticed = false
		for i := 0; i < len(c.kept) && !noticed; i++ {
			c.compare(c.kept[i].method, c.kept[i].path, c.kept[i].got)
		}
		tried++
		if !noticed {
			unnoticed = append(unnoticed, what)
		}
	}
	seen := maps.Clone(c.seen)
	for name, schema := range at2(c.root, "components", "schemas").(map[string]any) {
		properties, _ := at2(schema, "properties").(map[string]any)
		for field := range maps.Clone(properties) {
			if seen[name+"."+field] {
				try(name+"."+field, properties, field)
			}
		}
	}
	for name, op := range c.operations() {
		responses := op["responses"].(map[string]any)
		for status := range maps.Clone(responses) {
			if seen[name+" "+status] {
				try(name+" "+status, responses, status)
			}
		}
	}
	return unnoticed, tried
}
