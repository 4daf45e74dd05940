// Uploads a file by Pyroscope's generated client of debuginfo.v1alpha1, as profilecli does.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"connectrpc.com/connect"
	debuginfo "github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1"
	"github.com/grafana/pyroscope/api/gen/proto/go/debuginfo/v1alpha1/debuginfov1alpha1connect"
)

func main() {
	address, id, path, protocol := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	var options []connect.ClientOption
	transport := http.DefaultClient
	switch protocol {
	case "grpc":
		// gRPC takes HTTP/2, here without TLS.
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		transport = &http.Client{Transport: &http.Transport{Protocols: protocols}}
		options = append(options, connect.WithGRPC())
	case "grpcweb":
		options = append(options, connect.WithGRPCWeb())
	case "json":
		options = append(options, connect.WithProtoJSON())
	}
	client := debuginfov1alpha1connect.NewDebuginfoServiceClient(transport, address, options...)
	file := &debuginfo.FileMetadata{
		GnuBuildId: id,
		Name:       "program",
		Type:       debuginfo.FileMetadata_TYPE_EXECUTABLE_FULL,
	}
	answer, err := client.ShouldInitiateUpload(context.Background(),
		connect.NewRequest(&debuginfo.ShouldInitiateUploadRequest{File: file}))
	check("ShouldInitiateUpload", err)
	fmt.Println(answer.Msg.ShouldInitiateUpload, answer.Msg.Reason)
	if !answer.Msg.ShouldInitiateUpload {
		return
	}
	body, err := os.Open(path)
	check("open", err)
	response, err := http.Post(address+"/debuginfo.v1alpha1.DebuginfoService/Upload/"+id, "", body)
	check("Upload", err)
	fmt.Println(response.StatusCode)
	_, err = client.UploadFinished(context.Background(),
		connect.NewRequest(&debuginfo.UploadFinishedRequest{GnuBuildId: id}))
	check("UploadFinished", err)
	fmt.Println("finished")
}

func check(what string, err error) {
	if err != nil {
		fmt.Println(what, connect.CodeOf(err), err)
		os.Exit(1)
	}
}
