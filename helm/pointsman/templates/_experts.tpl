{{/* Experts: their values with the defaults below them, and what the gateway is told of them. */}}

{{/* The values of one expert. Call: dict "root" $ "name" NAME */}}
{{- define "pointsman.expert" -}}
{{- mergeOverwrite (deepCopy .root.Values.expertDefaults) (deepCopy (index .root.Values.experts .name)) | toYaml -}}
{{- end }}

{{- define "pointsman.expertName" -}}
{{ include "pointsman.fullname" .root }}-{{ .name }}
{{- end }}

{{/* How a group of models takes turns: "sleep", "lora", or nothing if the model is in no group. Call: dict "root" $ "model" NAME */}}
{{- define "pointsman.turns" -}}
{{- range .root.Values.config.residency -}}
{{- if has $.model .models -}}{{ .how | default "sleep" }}{{- end -}}
{{- end -}}
{{- end }}

{{/* Where the gateway finds an expert's servers, as keys of its entry in `models`. Call: dict "root" $ "name" NAME "reach" HOW */}}
{{- define "pointsman.reach" -}}
{{- $service := include "pointsman.expertName" . -}}
{{- if eq .reach "url" -}}
backends: [http://{{ $service }}:8000/v1]
{{- else if eq .reach "dns" -}}
discovery: {type: dns, name: {{ $service }}.{{ .root.Release.Namespace }}.svc.cluster.local., port: 8000}
{{- else -}}
discovery: {type: kubernetes, service: {{ $service }}, port: http}
{{- end -}}
{{- end }}

{{/* The entries in `models` of one expert and its adapters, as a list. Call: dict "root" $ "name" NAME */}}
{{- define "pointsman.expertModels" -}}
{{- $expert := include "pointsman.expert" . | fromYaml -}}
{{- $taken := include "pointsman.turns" (dict "root" .root "model" .name) -}}
{{- $names := prepend (keys ($expert.adapters | default dict) | sortAlpha) .name -}}
{{- range $names -}}
{{- $taken = printf "%s%s" $taken (include "pointsman.turns" (dict "root" $.root "model" .)) -}}
{{- end -}}
{{- $found := include "pointsman.reach" (dict "root" .root "name" .name "reach" (ternary "url" $expert.reach (ne $taken ""))) | fromYaml -}}
{{- $own := deepCopy ($expert.model | default dict) -}}
{{- if and $expert.maxModelLen (not $own.context_window) -}}{{- $_ := set $own "context_window" $expert.maxModelLen -}}{{- end -}}
{{- with $expert.apiKey -}}{{- $_ := set $own "api_key" (printf "${%s}" .) -}}{{- end -}}
{{- $base := merge (dict "name" .name) $own $found -}}
{{- if and $expert.source (eq $expert.kind "vllm") -}}{{- $_ := set $base "served_as" $expert.source -}}{{- end -}}
{{- $models := list $base -}}
{{- range $adapter, $given := $expert.adapters -}}
{{- $entry := mergeOverwrite (deepCopy $own) (deepCopy ($given.model | default dict)) (dict "name" $adapter) $found -}}
{{- $models = append $models $entry -}}
{{- end -}}
{{- toYaml $models -}}
{{- end }}

{{/* The arguments of an expert's server, as a list. Call: dict "root" $ "name" NAME */}}
{{- define "pointsman.expertArgs" -}}
{{- $expert := include "pointsman.expert" . | fromYaml -}}
{{- $args := list -}}
{{- if eq $expert.kind "fake" -}}
{{- $args = list "fake-vllm" "--host" "0.0.0.0" "--port" "8000" "--model" .name -}}
{{- range keys ($expert.adapters | default dict) | sortAlpha -}}{{- $args = concat $args (list "--model" .) -}}{{- end -}}
{{- $args = concat $args (list "--skill" (toString $expert.fake.skill) "--latency" $expert.fake.latency "--words" (toString (int $expert.fake.words))) -}}
{{- with $expert.maxModelLen -}}{{- $args = concat $args (list "--max-model-len" (toString (int .))) -}}{{- end -}}
{{- with $expert.apiKey -}}{{- $args = concat $args (list "--api-key" "$(VLLM_API_KEY)") -}}{{- end -}}
{{- else -}}
{{- $args = list $expert.source "--host" "0.0.0.0" "--port" "8000" "--shutdown-timeout" (toString (int $expert.drainSeconds)) -}}
{{- if gt (int $expert.gpus) 0 -}}{{- $args = concat $args (list "--gpu-memory-utilization" (toString $expert.gpuMemoryUtilization)) -}}{{- end -}}
{{- if gt (int $expert.gpus) 1 -}}{{- $args = concat $args (list "--tensor-parallel-size" (toString (int $expert.gpus))) -}}{{- end -}}
{{- with $expert.maxModelLen -}}{{- $args = concat $args (list "--max-model-len" (toString (int .))) -}}{{- end -}}
{{- if contains "sleep" (include "pointsman.turns" (dict "root" .root "model" .name)) -}}{{- $args = append $args "--enable-sleep-mode" -}}{{- end -}}
{{- with $expert.adapters -}}
{{- $args = concat $args (list "--enable-lora" "--max-loras" (toString (int ($expert.maxLoras | default (len .))))) -}}
{{- with $expert.maxLoraRank -}}{{- $args = concat $args (list "--max-lora-rank" (toString (int .))) -}}{{- end -}}
{{- $loaded := list -}}
{{- range $adapter, $given := . -}}
{{- if not (include "pointsman.turns" (dict "root" $.root "model" $adapter)) -}}{{- $loaded = append $loaded (printf "%s=%s" $adapter $given.source) -}}{{- end -}}
{{- end -}}
{{- if $loaded -}}{{- $args = concat $args (list "--lora-modules") $loaded -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (concat $args ($expert.args | default list)) -}}
{{- end }}

{{/* The variables of an expert's server, as a list. Call: dict "root" $ "name" NAME */}}
{{- define "pointsman.expertEnv" -}}
{{- $expert := include "pointsman.expert" . | fromYaml -}}
{{- with $expert.apiKey }}
- name: VLLM_API_KEY
  valueFrom:
    {{- include "pointsman.secretRef" (dict "root" $.root "variable" .) | nindent 4 }}
{{- end }}
{{- if eq $expert.kind "vllm" }}
{{- with $expert.huggingFaceToken }}
- name: HF_TOKEN
  valueFrom:
    {{- include "pointsman.secretRef" (dict "root" $.root "variable" .) | nindent 4 }}
{{- end }}
# Whatever vLLM and its libraries write goes below /tmp, and the weights into the cache: the root file system is read-only.
- {name: HOME, value: /tmp}
- {name: USER, value: vllm}
- {name: HF_HOME, value: /models}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
{{- $turns := "" }}
{{- range prepend (keys ($expert.adapters | default dict) | sortAlpha) .name }}
{{- $turns = printf "%s %s" $turns (include "pointsman.turns" (dict "root" $.root "model" .)) }}
{{- end }}
{{- if contains "sleep" $turns }}
- {name: VLLM_SERVER_DEV_MODE, value: "1"}
{{- end }}
{{- if contains "lora" $turns }}
- {name: VLLM_ALLOW_RUNTIME_LORA_UPDATING, value: "True"}
{{- end }}
{{- end }}
{{- range $name, $value := $expert.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
