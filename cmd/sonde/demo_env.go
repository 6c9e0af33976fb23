package main

// agentEnv is the environment that tells cart's agent where the collector is. The other services have no agent to tell.
func agentEnv(name, url string) []string {
	if name != "cart" {
		return nil
	}
	return []string{"SONDE_URL=" + url}
}
