{{/* What cannot work is refused here, each with the key that is to be changed. All of it is said at once. */}}

{{- define "pointsman.check" -}}
{{- $problems := concat
  (include "pointsman.check.callers" . | fromYamlArray)
  (include "pointsman.check.secrets" . | fromYamlArray)
  (include "pointsman.check.files" . | fromYamlArray)
  (include "pointsman.check.models" . | fromYamlArray)
  (include "pointsman.check.experts" . | fromYamlArray)
  (include "pointsman.check.cluster" . | fromYamlArray) -}}
{{- if $problems -}}
{{- fail (printf "\n  %s\n" (join "\n  " $problems)) -}}
{{- end -}}
{{- end }}

{{- define "pointsman.check.callers" -}}
{{- $found := list -}}
{{- $auth := .Values.config.auth | default dict -}}
{{- $file := include "pointsman.keysSecret" . -}}
{{- if and .Values.keys.entries .Values.keys.existingSecret -}}
{{- $found = append $found "keys.entries: `keys.existingSecret` is given too, and there is one keys file" -}}
{{- end -}}
{{- if and .Values.insecure (or $auth $file) -}}
{{- $found = append $found "insecure: true lets everybody in, but `keys` or `config.auth` are there: take one away" -}}
{{- else if not (or .Values.insecure $auth $file) -}}
{{- $found = append $found "keys.existingSecret: nobody could call: name a Secret with a keys file, give keys.entries (`pointsman keys new`), or for a trial insecure=true" -}}
{{- end -}}
{{- if and $auth.keys (not $file) -}}
{{- $found = append $found "keys.existingSecret: config.auth.keys names a keys file, and no Secret holds one: name it here, or give keys.entries" -}}
{{- end -}}
{{- if and $auth $file (not $auth.keys) -}}
{{- $found = append $found "config.auth.keys: is to say keys.yaml, since `keys` gives a keys file" -}}
{{- end -}}
{{- if and $auth.keys (or (isAbs $auth.keys) (contains ".." $auth.keys)) -}}
{{- $found = append $found "config.auth.keys: the keys file is put beside the configuration: say keys.yaml" -}}
{{- end -}}
{{- toYaml $found -}}
{{- end }}

{{/* Every variable must come from somewhere, and nothing secret may stand in the ConfigMap. */}}
{{- define "pointsman.check.secrets" -}}
{{- $found := list -}}
{{- $config := include "pointsman.config" . | fromYaml -}}
{{- $known := concat (keys (.Values.secrets.values | default dict)) (keys (.Values.secrets.existing | default dict)) (keys (.Values.env | default dict)) -}}
{{- range regexFindAll `\$\{[A-Za-z_][A-Za-z0-9_]*\}` (toYaml $config) -1 | uniq | sortAlpha -}}
{{- $name := trimSuffix "}" (trimPrefix "${" .) -}}
{{- if not (has $name $known) -}}
{{- $found = append $found (printf "secrets.existing.%s: the configuration says ${%s}, and no Secret gives it: name one here, or give secrets.values.%s" $name $name $name) -}}
{{- end -}}
{{- end -}}
{{- range keys (.Values.secrets.values | default dict) | sortAlpha -}}
{{- if hasKey ($.Values.secrets.existing | default dict) . -}}{{- $found = append $found (printf "secrets.values.%s: stands in secrets.existing too" .) -}}{{- end -}}
{{- end -}}
{{- range keys (.Values.env | default dict) | sortAlpha -}}
{{- if or (hasKey ($.Values.secrets.values | default dict) .) (hasKey ($.Values.secrets.existing | default dict) .) -}}{{- $found = append $found (printf "env.%s: stands in `secrets` too" .) -}}{{- end -}}
{{- end -}}
{{- range $index, $model := .Values.config.models -}}
{{- if and $model.api_key (not (regexMatch `^\$\{[A-Za-z_][A-Za-z0-9_]*(:-(none)?)?\}$` $model.api_key)) -}}
{{- $found = append $found (printf "config.models[%d].api_key: a ConfigMap is no place for a key: say ${NAME}, and give secrets.existing.NAME or secrets.values.NAME" $index) -}}
{{- end -}}
{{- end -}}
{{- $url := regexReplaceAll `\$\{[A-Za-z_][A-Za-z0-9_]*\}` (dig "redis" "url" "" $config) "" -}}
{{- if regexMatch `://[^/]*:[^/@]+@|password=[^&]` $url -}}
{{- $found = append $found "config.redis.url: a ConfigMap is no place for a password: say ${NAME}, and give secrets.existing.NAME or secrets.values.NAME" -}}
{{- end -}}
{{- range $name, $value := dig "tracing" "headers" dict $config -}}
{{- if and (regexMatch `(?i)auth|key|token|secret` $name) (not (regexMatch `^((Bearer|Basic|Token) )?\$\{[A-Za-z_][A-Za-z0-9_]*\}$` (toString $value))) -}}
{{- $found = append $found (printf "config.tracing.headers.%s: a ConfigMap is no place for a key: say ${NAME}, and give secrets.existing.NAME or secrets.values.NAME" $name) -}}
{{- end -}}
{{- end -}}
{{- range keys (.Values.experts | default dict) | sortAlpha -}}
{{- $expert := include "pointsman.expert" (dict "root" $ "name" .) | fromYaml -}}
{{- range $key := list "apiKey" "huggingFaceToken" -}}
{{- $name := index $expert $key -}}
{{- if and $name (not (or (hasKey ($.Values.secrets.values | default dict) $name) (hasKey ($.Values.secrets.existing | default dict) $name))) -}}
{{- $found = append $found (printf "secrets.existing.%s: an expert's %s is to come from it, and no Secret gives it: name one here, or give secrets.values.%s" $name $key $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml ($found | uniq) -}}
{{- end }}

{{/* Files that the configuration reads or writes: the root file system is read-only, and the state goes with the pod. */}}
{{- define "pointsman.check.files" -}}
{{- $found := list -}}
{{- range $number, $route := .Values.config.routes -}}
{{- $policy := $route.policy | default dict -}}
{{- $parts := concat ($policy.scorers | default list) ($policy.filters | default list) (list ($policy.picker | default dict) ($policy.planner | default dict)) -}}
{{- range $parts -}}
{{- if and .artifact (not (or $.Values.artifacts.existingClaim $.Values.artifacts.image $.Values.state.existingClaim $.Values.state.size)) -}}
{{- $found = append $found (printf "artifacts.existingClaim: config.routes[%d] reads %s, and no volume holds it: name a claim here, or give artifacts.image or state.existingClaim" $number .artifact) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ledger := dig "ledger" "path" "" .Values.config -}}
{{- if and (isAbs $ledger) (not (hasPrefix "/var/lib/pointsman/" $ledger)) -}}
{{- $found = append $found "config.ledger.path: only /var/lib/pointsman, the working directory, can be written to" -}}
{{- end -}}
{{- if and .Values.artifacts.existingClaim .Values.artifacts.image -}}
{{- $found = append $found "artifacts.image: `artifacts.existingClaim` is given too" -}}
{{- end -}}
{{- if and .Values.state.size (not .Values.state.existingClaim) (gt (include "pointsman.mostReplicas" . | int) 1) (ne .Values.state.accessMode "ReadWriteMany") -}}
{{- $found = append $found "state.accessMode: several gateways share the claim: say ReadWriteMany" -}}
{{- end -}}
{{- toYaml ($found | uniq) -}}
{{- end }}

{{- define "pointsman.check.models" -}}
{{- $found := list -}}
{{- $config := include "pointsman.config" . | fromYaml -}}
{{- if not $config.models -}}
{{- $found = append $found "config.models: there is none: give models, or `experts`; values-minimal.yaml and values-fake.yaml beside the chart's values.yaml are a start" -}}
{{- end -}}
{{- $names := list -}}
{{- range $config.models -}}
{{- if has .name $names -}}{{- $found = append $found (printf "experts: there is another model %q in config.models, or among the adapters" .name) -}}{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range $number, $route := .Values.config.routes -}}
{{- range $route.models -}}
{{- if not (has . $names) -}}{{- $found = append $found (printf "config.routes[%d].models: no model named %q; there are %s" $number . (join ", " $names)) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range list "pre_stop_seconds" "drain_seconds" -}}
{{- if kindIs "string" (dig "server" . 0 $.Values.config) -}}
{{- $found = append $found (printf "config.server.%s: is to be a number here, since terminationGracePeriodSeconds is computed from it" .) -}}
{{- end -}}
{{- end -}}
{{- if .Values.config.residency -}}
{{- if or (gt (include "pointsman.mostReplicas" . | int) 1) .Values.autoscaling.enabled -}}
{{- $found = append $found "replicas: models that take turns (config.residency) need one gateway, which knows what is awake: say 1" -}}
{{- end -}}
{{- if gt (int .Values.workers) 1 -}}
{{- $found = append $found "workers: models that take turns (config.residency) need one process, which knows what is awake: say 1" -}}
{{- end -}}
{{- end -}}
{{- toYaml ($found | uniq) -}}
{{- end }}

{{- define "pointsman.check.experts" -}}
{{- $found := list -}}
{{- range $name := keys (.Values.experts | default dict) | sortAlpha -}}
{{- $expert := include "pointsman.expert" (dict "root" $ "name" $name) | fromYaml -}}
{{- $cache := $expert.cache | default dict -}}
{{- if and (eq $expert.kind "vllm") (not $expert.source) -}}
{{- $found = append $found (printf "experts.%s.source: is required: what vLLM loads, such as Qwen/Qwen2.5-7B-Instruct" $name) -}}
{{- end -}}
{{- if and (eq $expert.kind "vllm") $cache.enabled (not $cache.existingClaim) (gt (int $expert.replicas) 1) (ne $cache.accessMode "ReadWriteMany") -}}
{{- $found = append $found (printf "experts.%s.cache.accessMode: %d replicas share the claim: say ReadWriteMany, or cache.enabled=false" $name (int $expert.replicas)) -}}
{{- end -}}
{{- if and (eq $expert.kind "vllm") $cache.enabled (not $cache.existingClaim) (not $cache.size) -}}
{{- $found = append $found (printf "experts.%s.cache.size: is required for a new claim" $name) -}}
{{- end -}}
{{- if and (eq $name "redis") $.Values.redis.enabled -}}
{{- $found = append $found "experts.redis: is the name of the trial's Redis: choose another" -}}
{{- end -}}
{{- $turns := include "pointsman.turns" (dict "root" $ "model" $name) -}}
{{- range keys ($expert.adapters | default dict) | sortAlpha -}}{{- $turns = printf "%s%s" $turns (include "pointsman.turns" (dict "root" $ "model" .)) -}}{{- end -}}
{{- if and $turns (ne (int $expert.replicas) 1) -}}
{{- $found = append $found (printf "experts.%s.replicas: models that take turns (config.residency) have one server: say 1" $name) -}}
{{- end -}}
{{- if and (eq $expert.reach "dns") (eq $turns "") (eq (int $expert.replicas) 0) -}}
{{- $found = append $found (printf "experts.%s.reach: DNS has no name for a Service without pods: say slices" $name) -}}
{{- end -}}
{{- end -}}
{{- toYaml ($found | uniq) -}}
{{- end }}

{{- define "pointsman.check.cluster" -}}
{{- $found := list -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- $found = append $found "autoscaling.minReplicas: is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not (dig "requests" "cpu" "" .Values.resources)) -}}
{{- $found = append $found "resources.requests.cpu: is required for autoscaling.cpu, which is a percentage of it" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (eq .Values.autoscaling.by "keda") .Values.autoscaling.prometheus.queries (not .Values.autoscaling.prometheus.serverAddress) -}}
{{- $found = append $found "autoscaling.prometheus.serverAddress: is required for autoscaling.prometheus.queries" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (eq .Values.autoscaling.by "keda") .Values.autoscaling.podMetrics -}}
{{- $found = append $found "autoscaling.podMetrics: are of by=hpa; KEDA asks Prometheus itself: use autoscaling.prometheus.queries" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.expertPorts) -}}
{{- with include "pointsman.hiddenPorts" . -}}
{{- $found = append $found (printf "networkPolicy.expertPorts: is required, since `discovery` does not say the ports of %s" (trim .)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (dig "tracing" "endpoint" "" .Values.config) (not .Values.networkPolicy.otlp) -}}
{{- $found = append $found "networkPolicy.otlp: is required, since config.tracing.endpoint names a collector that no gateway could reach" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}{{- $found = append $found "ingress.hosts: is required" -}}{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}{{- $found = append $found "httpRoute.parentRefs: is required: the Gateway that it belongs to" -}}{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- $found = append $found "serviceAccount.name: is required if serviceAccount.create is false" -}}
{{- end -}}
{{- if and .Values.redis.enabled (dig "redis" "url" "" .Values.config) -}}
{{- $found = append $found "redis.enabled: config.redis.url names another Redis: take one of them away" -}}
{{- end -}}
{{- if and (dig "ledger" "redis" false .Values.config) (not .Values.redis.enabled) (not .Values.config.redis) -}}
{{- $found = append $found "config.redis.url: config.ledger.redis needs one" -}}
{{- end -}}
{{- if and .Values.tests.key.name (not .Values.tests.key.key) -}}{{- $found = append $found "tests.key.key: is required: where the API key stands in the Secret" -}}{{- end -}}
{{- toYaml ($found | uniq) -}}
{{- end }}
