{{/* gateway.yaml: the values below `config`, and what the chart knows better. */}}

{{/* How many gateways there may be at once. */}}
{{- define "pointsman.mostReplicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled | int -}}
{{- end }}

{{- define "pointsman.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $models := $config.models | default list -}}
{{- range keys (.Values.experts | default dict) | sortAlpha -}}
{{- $models = concat $models (include "pointsman.expertModels" (dict "root" $ "name" .) | fromYamlArray) -}}
{{- end -}}
{{- $_ := set $config "models" $models -}}
{{- if and .Values.redis.enabled (not $config.redis) -}}
{{- $_ := set $config "redis" (dict "url" (printf "redis://%s-redis:6379/0" (include "pointsman.fullname" .))) -}}
{{- end -}}
{{- if and (include "pointsman.keysSecret" .) (not $config.auth) -}}
{{- $_ := set $config "auth" (dict "keys" "keys.yaml") -}}
{{- end -}}
{{- if not (($config.limits | default dict).expected_replicas) -}}
{{- $_ := set $config "limits" (merge (dict "expected_replicas" (include "pointsman.mostReplicas" . | int | max 1)) ($config.limits | default dict)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* The Secret that holds the keys file, if there is one. */}}
{{- define "pointsman.keysSecret" -}}
{{- if .Values.keys.existingSecret -}}
{{ .Values.keys.existingSecret }}
{{- else if .Values.keys.entries -}}
{{ include "pointsman.fullname" . }}-keys
{{- end -}}
{{- end }}

{{/* Seconds from the end of a pod's life to the kill: preStop, drain, and 15 for the rest. */}}
{{- define "pointsman.graceSeconds" -}}
{{- $server := .Values.config.server | default dict -}}
{{- $leave := dig "pre_stop_seconds" 0 $server | float64 -}}
{{- $drain := dig "drain_seconds" 30 $server | float64 -}}
{{- addf .Values.preStopSeconds $leave $drain 15 | ceil | int -}}
{{- end }}

{{/* Seconds that an answer may take, for whoever stands in front. */}}
{{- define "pointsman.timeoutSeconds" -}}
{{- if .Values.timeoutSeconds -}}
{{ int .Values.timeoutSeconds }}
{{- else -}}
{{- $total := dig "timeouts" "total" 600 .Values.config | float64 -}}
{{- range .Values.config.models -}}{{- $total = maxf $total (dig "timeouts" "total" 0 . | float64) -}}{{- end -}}
{{- range keys (.Values.experts | default dict) -}}
{{- $expert := include "pointsman.expert" (dict "root" $ "name" .) | fromYaml -}}
{{- $total = maxf $total (dig "model" "timeouts" "total" 0 $expert | float64) -}}
{{- end -}}
{{- $line := dig "admission" "queue" "interactive" "max_wait_seconds" 10 .Values.config | float64 -}}
{{- $batch := dig "admission" "queue" "batch" "max_wait_seconds" 300 .Values.config | float64 -}}
{{- $retries := dig "retries" "wait_seconds" 30 .Values.config | float64 -}}
{{- addf $total (maxf $line $batch) $retries | ceil | int -}}
{{- end -}}
{{- end }}

{{/* Namespaces whose EndpointSlices the gateway reads, as a list; empty if it reads none. */}}
{{- define "pointsman.discoveryNamespaces" -}}
{{- $found := list -}}
{{- range (include "pointsman.config" . | fromYaml).models -}}
{{- if eq (dig "discovery" "type" "" .) "kubernetes" -}}{{- $found = append $found (dig "discovery" "namespace" $.Release.Namespace .) -}}{{- end -}}
{{- end -}}
{{- $found | uniq | sortAlpha | toYaml -}}
{{- end }}

{{/* What a first request asks for: `tests.model`, the first route, or the first model. */}}
{{- define "pointsman.firstModel" -}}
{{- $config := include "pointsman.config" . | fromYaml -}}
{{- if .Values.tests.model -}}
{{ .Values.tests.model }}
{{- else if $config.routes -}}
{{ (first $config.routes).name }}
{{- else -}}
{{ (first $config.models).name }}
{{- end -}}
{{- end }}
