package broker

import "sync/atomic"

// group is one shared subscription: a share name and a filter, and who is in it. The shard of the filter
// guards members. A message goes to one member, in turn: connected ones first; QoS 1 waits with an absent
// one only when all are away.
type group struct {
	name    string
	filter  string
	members []*subscription
	next    atomic.Uint32
}

// join adds u to the group of that name, which comes to be with its first member.
func (c *crowd) join(u *subscription, name string) {
	for _, g := range c.groups {
		if g.name == name {
			u.group = g
		}
	}
	if u.group == nil {
		u.group = &group{name: name, filter: u.filter}
		c.groups = append(c.groups, u.group)
	}
	u.at = int32(len(u.group.members))
	u.group.members = append(u.group.members, u)
}

// leave removes u from its group, which ends with its last member.
func (c *crowd) leave(u *subscription) {
	g := u.group
	g.members = removeAt(g.members, u)
	if len(g.members) > 0 {
		return
	}
	for i := range c.groups {
		if c.groups[i] == g {
			c.groups = append(c.groups[:i], c.groups[i+1:]...)
			return
		}
	}
}

// pick chooses the member that gets the next message; never one of session not.
func (g *group) pick(qos byte, not *session) *subscription {
	n := uint32(len(g.members))
	if n == 0 {
		return nil
	}
	first := g.next.Add(1)
	var away, busy *subscription
	for i := range n {
		u := g.members[(first+i)%n]
		switch {
		case u.s == not:
		case !u.s.online.Load():
			if away == nil {
				away = u
			}
		case u.s.full.Load():
			if busy == nil {
				busy = u
			}
		default:
			return u
		}
	}
	if busy != nil {
		return busy
	}
	if qos == 0 {
		return nil
	}
	return away
}

// pickFrom chooses a member of a group for a message that its first choice can no longer take.
func (x *index) pickFrom(g *group, not *session) *subscription {
	var u *subscription
	h := x.shardOf(g.filter)
	h.mu.RLock()
	u = g.pick(1, not)
	h.mu.RUnlock()
	return u
}
