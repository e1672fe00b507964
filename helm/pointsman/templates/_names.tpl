{{/* Names, labels and other words that several objects must agree on. */}}

{{- define "pointsman.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* What the names of all objects begin with. At most 40 characters, since names of experts come behind it and 63 is the limit. */}}
{{- define "pointsman.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "pointsman.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pointsman.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels that select pods. Call: dict "root" $ "component" NAME, and for an expert "expert" NAME. */}}
{{- define "pointsman.selector" -}}
app.kubernetes.io/name: {{ include "pointsman.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .expert }}
pointsman-expert: {{ . }}
{{- end }}
{{- end }}

{{/* All labels; called as the selector. */}}
{{- define "pointsman.labels" -}}
{{ include "pointsman.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image in full. Call: dict "image" SECTION "tag" WHAT IT IS WITHOUT A TAG */}}
{{- define "pointsman.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end -}}
{{- end }}

{{/* The image's entry point is the command `pointsman`. */}}
{{- define "pointsman.gatewayImage" -}}
image: {{ include "pointsman.image" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/* What every pod of the chart begins with. Call: dict "root" $ "token" WHETHER IT TALKS TO THE API SERVER "user" UID OR NULL */}}
{{- define "pointsman.pod" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
automountServiceAccountToken: {{ .token | default false }}
# Else a Service called vllm would make a variable VLLM_PORT, which vLLM reads.
enableServiceLinks: false
securityContext:
  {{- include "pointsman.podSecurity" . | nindent 2 }}
{{- end }}

{{/* The label `job` of the gateways' metrics. The alerts look for jobs that are called pointsman, or end so. */}}
{{- define "pointsman.job" -}}
{{- $name := include "pointsman.fullname" . -}}
{{- ternary $name (printf "%s-pointsman" $name) (regexMatch `^(.+-)?pointsman$` $name) -}}
{{- end }}

{{- define "pointsman.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "pointsman.fullname" .) -}}
{{- end }}

{{/* What Kubernetes calls "restricted", for pods. Call: dict "user" UID, or null where the cluster chooses one */}}
{{- define "pointsman.podSecurity" -}}
runAsNonRoot: {{ ne (toString .user) "0" }}
{{- if not (kindIs "invalid" .user) }}
runAsUser: {{ int .user }}
fsGroup: {{ int .user }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The same for containers. */}}
{{- define "pointsman.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a variable of `secrets` comes from. Call: dict "root" $ "variable" NAME */}}
{{- define "pointsman.secretRef" -}}
{{- with index (.root.Values.secrets.existing | default dict) .variable -}}
secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
{{- else -}}
secretKeyRef: {name: {{ include "pointsman.fullname" .root }}-env, key: {{ .variable }}}
{{- end -}}
{{- end }}
