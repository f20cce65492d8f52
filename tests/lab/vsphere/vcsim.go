// vcsim with a certificate and a password of the tests': Debian ships its library, not its command.
package main

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	model := simulator.VPX()
	pair, err := tls.LoadX509KeyPair(os.Args[2], os.Args[2])
	if err == nil {
		err = model.Create()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	model.Service.Listen = &url.URL{Host: os.Args[1], User: url.UserPassword(os.Args[3], os.Args[4])}
	server := model.Service.NewServer()
	fmt.Println(server.URL.Host)
	done := make(chan os.Signal, 1)
	signal.Notify(done, syscall.SIGTERM, syscall.SIGINT)
	<-done
	server.Close()
}
