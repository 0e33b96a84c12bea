package target

import (
	"os/user"
	"strconv"
	"sync"
)

// maxOwners bounds the names remembered per restore; beyond it they are looked up again.
const maxOwners = 4096

// owners turns the names of users and groups into local numbers, each looked up once.
type owners struct {
	mu            sync.RWMutex
	users, groups map[string]local // guarded by mu
}

// local is the number of a name here, if it has one.
type local struct {
	id    uint32
	known bool
}

// of gives the numbers that m's owners have here.
func (o *owners) of(m *Meta) (uid, gid uint32) {
	uid, gid = m.UID, m.GID
	if m.User == "" && m.Group == "" {
		return uid, gid
	}
	o.mu.RLock()
	u, haveUser := o.users[m.User]
	g, haveGroup := o.groups[m.Group]
	o.mu.RUnlock()
	if m.User != "" && !haveUser {
		u = o.learn(&o.users, m.User, userID)
	}
	if m.Group != "" && !haveGroup {
		g = o.learn(&o.groups, m.Group, groupID)
	}
	if u.known {
		uid = u.id
	}
	if g.known {
		gid = g.id
	}
	return uid, gid
}

func (o *owners) learn(names *map[string]local, name string, find func(string) (string, error)) local {
	var l local
	if text, err := find(name); err == nil {
		if id, err := strconv.ParseUint(text, 10, 32); err == nil {
			l = local{uint32(id), true}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if *names == nil || len(*names) >= maxOwners {
		*names = make(map[string]local)
	}
	(*names)[name] = l
	return l
}

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}
