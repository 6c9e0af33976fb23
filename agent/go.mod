module github.com/sonde-io/sonde/agent

go 1.23
