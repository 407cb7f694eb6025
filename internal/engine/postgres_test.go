package engine

import (
	"testing"

	"muster/test/postgres"
)

func TestMain(m *testing.M) { postgres.Main(m) }
