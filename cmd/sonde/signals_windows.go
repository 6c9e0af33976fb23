package main

import "os"

// reloadSignals ask a collector to read its configuration again: Windows has none.
var reloadSignals []os.Signal
