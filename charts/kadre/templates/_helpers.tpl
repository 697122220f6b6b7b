{{- define "kadre.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kadre.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "kadre.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kadre.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "kadre.controller" -}}
{{- printf "%s-controller" (include "kadre.fullname" . | trunc 52 | trimSuffix "-") }}
{{- end }}

{{- define "kadre.gateway" -}}
{{- printf "%s-gateway" (include "kadre.fullname" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{- /* The Secret of the key that the gateway signs with: the controller makes it. */}}
{{- define "kadre.gatewayKey" -}}
{{- printf "%s-key" (include "kadre.gateway" . | trunc 59 | trimSuffix "-") }}
{{- end }}

{{- /* The Gateway that routes lead from: NAMESPACE/NAME. */}}
{{- define "kadre.gatewayAPI" -}}
{{- printf "%s/%s" (default .Release.Namespace .Values.gatewayAPI.gatewayNamespace) (default (include "kadre.fullname" .) .Values.gatewayAPI.gatewayName) }}
{{- end }}

{{- define "kadre.metrics" -}}
{{- printf "%s-metrics" (include "kadre.fullname" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{- define "kadre.scaler" -}}
{{- printf "%s-scaler" (include "kadre.fullname" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{- define "kadre.account" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "kadre.controller" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The webhook's Service and both its configurations: people look for kagent among a cluster's. */}}
{{- define "kadre.webhook" -}}
{{- $name := include "kadre.fullname" . }}
{{- printf "%s-webhook" (ternary $name (printf "kagent-%s" $name) (contains "kagent" $name) | trunc 55 | trimSuffix "-") }}
{{- end }}

{{- /* The Secret of its certificate: cert-manager's, or the controller's own, which takes none of somebody else. */}}
{{- define "kadre.webhookSecret" -}}
{{- printf "%s-%s" (include "kadre.webhook" .) (ternary "cert-manager" "tls" .Values.webhook.certManager.enabled) }}
{{- end }}

{{- define "kadre.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag | toString) }}
{{- end }}

{{- define "kadre.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "kadre.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Names of the Secrets that agents may use without naming them, as JSON. */}}
{{- define "kadre.sharedSecrets" -}}
{{- $names := list .Values.journal.existingSecret }}
{{- range .Values.providers }}
{{- $names = append $names (dig "existingSecret" "" .) }}
{{- end }}
{{- compact $names | uniq | sortAlpha | toJson }}
{{- end }}

{{- /* The namespaces the controller is confined to, as JSON: none where it has the whole cluster. */}}
{{- define "kadre.namespaces" -}}
{{- $names := list }}
{{- with .Values.watchNamespaces }}
{{- $names = append . $.Release.Namespace | uniq | sortAlpha }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{- /* Stop where the cluster lacks a kind: list of the root, the API, the value that asks for it, and what brings it. */}}
{{- define "kadre.needs" -}}
{{- $root := index . 0 }}
{{- if not ($root.Capabilities.APIVersions.Has (index . 1)) }}
{{- fail (printf "%s needs the API %s, which this cluster does not have: install %s first, or switch it off (helm template: --api-versions %s)" (index . 2) (index . 1) (index . 3) (index . 1)) }}
{{- end }}
{{- end }}

{{- /* What every pod of the chart has: the restricted Pod Security Standard, and where it may run. */}}
{{- define "kadre.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kadre.container" -}}
image: {{ include "kadre.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}
