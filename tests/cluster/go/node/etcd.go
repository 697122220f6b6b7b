package main

import (
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// newEtcdCommand makes a store of one member. It doesn't wait for the disk: what a test cluster keeps may be lost with
// the machine.
func newEtcdCommand() *cobra.Command {
	var folder, client, peer string
	command := &cobra.Command{
		Use: "etcd",
		RunE: func(*cobra.Command, []string) error {
			config := embed.NewConfig()
			config.Dir = folder
			config.LogLevel = "warn"
			config.UnsafeNoFsync = true
			clients, err := url.Parse(client)
			if err != nil {
				return err
			}
			peers, err := url.Parse(peer)
			if err != nil {
				return err
			}
			config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clients}, []url.URL{*clients}
			config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peers}, []url.URL{*peers}
			config.InitialCluster = config.InitialClusterFromName(config.Name)
			store, err := embed.StartEtcd(config)
			if err != nil {
				return err
			}
			defer store.Close()
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
			select {
			case <-stop:
				return nil
			case err := <-store.Err():
				return err
			}
		},
	}
	command.Flags().StringVar(&folder, "data-dir", "", "where the data is kept")
	command.Flags().StringVar(&client, "client-url", "", "the address clients use")
	command.Flags().StringVar(&peer, "peer-url", "", "the address other members would use")
	return command
}
