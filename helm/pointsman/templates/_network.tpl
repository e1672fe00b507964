{{/* Ports of experts outside of this chart, as a list: those in URLs, those that a discovery names, and `networkPolicy.expertPorts`. */}}
{{- define "pointsman.expertPorts" -}}
{{- $ports := .Values.networkPolicy.expertPorts -}}
{{- range .Values.config.models -}}
{{- range .backends -}}
{{- $url := urlParse . -}}
{{- $port := regexFind `:[0-9]+$` $url.host | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (ternary 443 80 (eq $url.scheme "https")) | int) -}}
{{- end -}}
{{- $port := dig "discovery" "port" "" . -}}
{{- if and $port (not (kindIs "string" $port)) -}}{{- $ports = append $ports (int $port) -}}{{- end -}}
{{- end -}}
{{- $found := list -}}
{{- range $ports -}}{{- $found = append $found (int .) -}}{{- end -}}
{{- $found | uniq | toYaml -}}
{{- end }}

{{/* Whether experts are found on ports that nothing here says. */}}
{{- define "pointsman.hiddenPorts" -}}
{{- range .Values.config.models -}}
{{- if and .discovery (not (kindIs "float64" .discovery.port)) (not (kindIs "int64" .discovery.port)) -}}{{ .name }} {{ end -}}
{{- end -}}
{{- end }}

{{/* A rule that lets traffic out. Call: dict "to" PEERS "ports" PORTS "protocols" LIST. No peers: anywhere. */}}
{{- define "pointsman.egress" -}}
- ports:
    {{- range $port := .ports }}
    {{- range $.protocols | default (list "TCP") }}
    - {protocol: {{ . }}, port: {{ int $port }}}
    {{- end }}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The pods of one component as a peer. */}}
{{- define "pointsman.peer" -}}
- podSelector:
    matchLabels:
      {{- include "pointsman.selector" . | nindent 6 }}
{{- end }}
