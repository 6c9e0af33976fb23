package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// apiServer is a real kube-apiserver over a real etcd, on loopback.
type apiServer struct {
	bin, dir, etcd string
	port           int
	cmd            *exec.Cmd
	admin          *rest.Config
}

// findBinary returns the file that a variable names, else the first that is there.
func findBinary(variable string, names ...string) string {
	if f := os.Getenv(variable); f != "" {
		return f
	}
	for _, name := range names {
		if f, err := exec.LookPath(name); err == nil {
			return f
		}
	}
	return ""
}

// startAPIServer starts one, or skips the test: `testdata/build-apiserver` makes the binary (some minutes), .ci/setup has Debian's etcd.
func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	cache := filepath.Join("..", "..", "..", ".cache")
	s := &apiServer{bin: findBinary("KUBE_APISERVER", filepath.Join(cache, "kube", "kube-apiserver"), "kube-apiserver"), dir: t.TempDir()}
	etcd := findBinary("KUBE_ETCD", filepath.Join(cache, "debian", "etcd-server", "usr", "bin", "etcd"), "etcd")
	switch {
	case s.bin == "":
		t.Skip("no kube-apiserver: run testdata/build-apiserver, or name one in KUBE_APISERVER")
	case etcd == "":
		t.Skip("no etcd: install Debian's etcd-server, or name one in KUBE_ETCD")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "sa.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	s.write(t, "tokens.csv", "admin-token,admin,admin,system:masters\n")
	client, peer := freePort(t), freePort(t)
	s.etcd = fmt.Sprintf("http://127.0.0.1:%d", client)
	peers := fmt.Sprintf("http://127.0.0.1:%d", peer)
	s.run(t, etcd, "--data-dir", filepath.Join(s.dir, "etcd"), "--listen-client-urls", s.etcd, "--advertise-client-urls", s.etcd, "--listen-peer-urls", peers,
		"--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers, "--unsafe-no-fsync")
	s.port = freePort(t)
	s.admin = s.config("admin-token")
	s.start(t)
	return s
}

func (s *apiServer) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *apiServer) config(token string) *rest.Config {
	return &rest.Config{Host: "https://127.0.0.1:" + strconv.Itoa(s.port), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// run starts a program that ends with the test.
func (s *apiServer) run(t *testing.T, bin string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(bin, args...)
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(bin)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "GOMEMLIMIT=1GiB")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s wrote:\n%s", bin, b[max(0, len(b)-4000):])
		}
	})
	return cmd
}

func (s *apiServer) start(t *testing.T) {
	t.Helper()
	file := func(name string) string { return filepath.Join(s.dir, name) }
	s.cmd = s.run(t, s.bin, "--etcd-servers", s.etcd, "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", strconv.Itoa(s.port), "--cert-dir", file("certs"),
		"--service-cluster-ip-range", "10.96.0.0/24", "--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", file("sa.key"),
		"--service-account-signing-key-file", file("sa.key"), "--authorization-mode", "RBAC", "--token-auth-file", file("tokens.csv"), "--disable-admission-plugins", "ServiceAccount", "--enable-priority-and-fairness=false")
	client, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the API server", func() bool {
		b, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Timeout(2 * time.Second).DoRaw(context.Background())
		return err == nil && string(b) == "ok"
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// create makes a pod and says that it runs, which a kubelet would.
func create(t *testing.T, c kubernetes.Interface, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	ctx, status := context.Background(), p.Status
	got, err := c.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got.Status = status
	if got, err = c.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return got
}

// applyRBAC makes the objects of deploy/kubernetes/rbac.yaml and returns a token of its service account.
func applyRBAC(t *testing.T, c kubernetes.Interface) string {
	t.Helper()
	ctx := context.Background()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "kubernetes", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "sonde"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(b), "\n---\n") {
		obj, _, err := clientscheme.Codecs.UniversalDeserializer().Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch o := obj.(type) {
		case *corev1.ServiceAccount:
			_, err = c.CoreV1().ServiceAccounts(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.ClusterRole:
			_, err = c.RbacV1().ClusterRoles().Create(ctx, o, metav1.CreateOptions{})
		case *rbacv1.ClusterRoleBinding:
			_, err = c.RbacV1().ClusterRoleBindings().Create(ctx, o, metav1.CreateOptions{})
		default:
			t.Fatalf("rbac.yaml holds a %T", o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tr, err := c.CoreV1().ServiceAccounts("sonde").CreateToken(ctx, "sonde", &authv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tr.Status.Token
}

// TestRealAPIServer watches pods of a real API server with the rights that deploy/kubernetes gives, through its death and return.
func TestRealAPIServer(t *testing.T) {
	s := startAPIServer(t)
	admin, err := kubernetes.NewForConfig(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	token := applyRBAC(t, admin)
	if _, err := admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	owned := func(p *corev1.Pod) {
		ownedBy("ReplicaSet", "cart-6d4f8b7c9d", "pod-template-hash", "6d4f8b7c9d")(p)
		p.OwnerReferences[0].APIVersion, p.OwnerReferences[0].UID = "v1", "other"
		p.OwnerReferences[1].APIVersion, p.OwnerReferences[1].UID = "apps/v1", "set"
		asking(p)
	}
	mine := create(t, admin, pod("cart-1", owned, "app", "side"))
	create(t, admin, pod("cart-2", func(p *corev1.Pod) { owned(p); p.Spec.NodeName = "n2" }, "app"))

	sidecar, err := newPodClient(s.config(token))
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, Config{Node: "n1"}, sidecar)
	until(t, "the pods of the node", func() bool { _, n := w.last(); return n > 0 })
	ts, _ := w.last()
	if len(ts) != 1 || ts[0]["k8s_pod_name"] != "cart-1" || ts[0]["k8s_deployment_name"] != "cart" || ts[0]["__address__"] != "10.1.0.5:6060" {
		t.Errorf("targets of n1: %v", ts)
	}
	if p := w.Placed("cart-1-side", "", ""); p == nil || p.Service != "side" || p.Labels["k8s_pod_uid"] != string(mine.UID) {
		t.Errorf("by its container: %+v", p)
	}
	all := watch(t, Config{Node: "*", Namespaces: []string{"shop"}}, sidecar)
	until(t, "the pods of all nodes", func() bool { ts, _ := all.last(); return len(ts) == 2 })

	s.cmd.Process.Kill()
	s.cmd.Wait()
	if p := w.Placed("cart-1-app", "", ""); p == nil || p.Service != "cart" {
		t.Errorf("while the API server is away: %+v", p)
	}
	s.start(t)
	later := create(t, admin, pod("cart-3", owned, "app"))
	until(t, "a pod that was made after its return", func() bool { return w.Placed("", string(later.UID), "") != nil })
	zero := int64(0)
	if err := admin.CoreV1().Pods("shop").Delete(ctx, "cart-1", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of a pod", func() bool { return w.Placed("cart-1-app", string(mine.UID), "") == nil })
}
