// cert-manager in one program, for tests: the first argument says which part of it to be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/cert-manager/cert-manager/cmd/cainjector/app"
	controller "github.com/cert-manager/cert-manager/cmd/controller/app"
	"github.com/cert-manager/cert-manager/cmd/util"
	webhook "github.com/cert-manager/cert-manager/cmd/webhook/app"
	logs "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/spf13/cobra"
	runtime "sigs.k8s.io/controller-runtime"
)

var parts = map[string]func(stop <-chan struct{}) *cobra.Command{
	"controller": controller.NewCommandStartCertManagerController,
	"webhook":    webhook.NewServerCommand,
	"cainjector": func(stop <-chan struct{}) *cobra.Command {
		runtime.SetLogger(logs.Log)
		return app.NewCommandStartInjectorController(util.ContextWithStopCh(context.Background(), stop), os.Stdout, os.Stderr)
	},
}

func main() {
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "the first argument names the part to be: controller, webhook or cainjector")
		os.Exit(2)
	}
	part := os.Args[1]
	os.Args = append([]string{part}, os.Args[2:]...)
	stop, exit := util.SetupExitHandler(util.GracefulShutdown)
	defer exit() // ends the process
	logs.InitLogs(flag.CommandLine)
	defer logs.FlushLogs()
	command := parts[part](stop)
	command.Flags().AddGoFlagSet(flag.CommandLine)
	flag.CommandLine.Parse([]string{})
	if err := command.Execute(); err != nil {
		logs.Log.Error(err, "ended")
		util.SetExitCode(err)
	}
}
