package store

import "os"

// longTests says that tests with chance or with many cases in them may take minutes: SONDE_LONG_TESTS is set.
var longTests = os.Getenv("SONDE_LONG_TESTS") != ""
