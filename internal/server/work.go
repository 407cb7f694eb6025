package server

// A work is something that one node at a time does.
type work string

// What is done at somebody else's broker. Both are no work of several nodes: requests that are not shared come to
// every subscriber, and each subscriber must be told once.
const (
	brokerRequests work = "broker/requests"
	brokerNotices  work = "broker/notices"
)

// webhookOf is the delivery for a webhook: a receiver is told once, and in order.
func webhookOf(hook string) work { return work("webhook/" + hook) }

// owns says whether a work is this node's now: the store shares work out by name.
func (s *Server) owns(w work) bool {
	owns, _ := s.store.Share()
	return owns(string(w))
}
