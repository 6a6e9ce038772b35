package tiers_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mariadbtest.Main(m)) }
