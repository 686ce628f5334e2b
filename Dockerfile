# The function app as an image, for Container Apps and Kubernetes: docs/containers.md.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go run ./build/pack -out /out

# The image of the Functions host for custom handlers. Pin it by the digest that
# your registry shows: what is pinned is what is scanned.
FROM mcr.microsoft.com/azure-functions/base:4
ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true \
    FUNCTIONS_WORKER_RUNTIME=custom
COPY --from=build /out/app /home/site/wwwroot
