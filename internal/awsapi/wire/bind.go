package wire

import "strconv"

// QueryString returns the value of query parameter name, nil if absent.
func QueryString(query func(string) (string, bool), name string) *string {
	if s, ok := query(name); ok {
		return &s
	}
	return nil
}

// QueryBool reads a query parameter that is true or false.
func QueryBool(query func(string) (string, bool), name, member string) (*bool, error) {
	s, ok := query(name)
	switch {
	case !ok:
		return nil, nil
	case s == "true":
		return Ptr(true), nil
	case s == "false":
		return Ptr(false), nil
	}
	return nil, &TypeError{Member: member, Want: "true or false", Value: clip(s)}
}

// QueryInt32 reads a query parameter that is a decimal integer of 32 bits.
func QueryInt32(query func(string) (string, bool), name, member string) (*int64, error) {
	return queryInt(query, name, member, 32)
}

// QueryInt64 reads a query parameter that is a decimal integer of 64 bits.
func QueryInt64(query func(string) (string, bool), name, member string) (*int64, error) {
	return queryInt(query, name, member, 64)
}

func queryInt(query func(string) (string, bool), name, member string, bits int) (*int64, error) {
	s, ok := query(name)
	if !ok {
		return nil, nil
	}
	n, err := textInt(s, member, bits)
	if err != nil {
		return nil, err
	}
	return &n, nil
}

// LabelInt64 reads a path label that is a decimal integer.
func LabelInt64(label func(string) string, name, member string) (int64, error) {
	return textInt(label(name), member, 64)
}

func textInt(s, member string, bits int) (int64, error) {
	n, err := strconv.ParseInt(s, 10, bits)
	if err != nil || s[0] == '+' {
		return 0, &TypeError{Member: member, Want: "an integer", Value: clip(s)}
	}
	return n, nil
}

// HeaderString returns the value of header name, nil if absent or empty.
func HeaderString(header func(string) string, name string) *string {
	if s := header(name); s != "" {
		return &s
	}
	return nil
}
