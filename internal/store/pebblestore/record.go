package pebblestore

import "encoding/binary"

func appendUvarint(b []byte, u uint64) []byte { return binary.AppendUvarint(b, u) }
