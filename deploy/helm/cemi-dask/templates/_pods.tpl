{{- define "cemi-dask.schedulerSpec" -}}
{{- include "cemi-dask.podCommon" (dict "root" . "pod" .Values.scheduler) }}
containers:
  - name: scheduler
    image: {{ include "cemi-dask.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [dask, scheduler]
    args:
      - --host
      - "0.0.0.0"
      - --port
      - "8786"
      - --protocol
      - {{ ternary "tls" "tcp" .Values.tls.enabled }}
      - --dashboard-address
      - ":8787"
    envFrom:
      {{- include "cemi-dask.envFrom" . | nindent 6 }}
    ports:
      - {name: tcp-comm, containerPort: 8786, protocol: TCP}
      - {name: http-dashboard, containerPort: 8787, protocol: TCP}
    startupProbe:
      httpGet: {path: /health, port: http-dashboard}
      periodSeconds: 5
      failureThreshold: 60
    readinessProbe:
      httpGet: {path: /health, port: http-dashboard}
      periodSeconds: 5
      timeoutSeconds: 5
    livenessProbe:
      httpGet: {path: /health, port: http-dashboard}
      periodSeconds: 20
      timeoutSeconds: 10
      failureThreshold: 6
    resources:
      requests:
        {{- include "cemi-dask.quantities" .Values.scheduler.resources.requests | nindent 8 }}
      limits:
        {{- include "cemi-dask.quantities" .Values.scheduler.resources.limits | nindent 8 }}
    securityContext:
      {{- include "cemi-dask.containerSecurity" . | nindent 6 }}
    volumeMounts:
      {{- include "cemi-dask.mounts" (dict "root" . "data" false) | nindent 6 }}
volumes:
  {{- include "cemi-dask.volumes" (dict "root" . "data" false "scratch" "1Gi") | nindent 2 }}
{{- end -}}

{{/* Takes (dict "root" $ "group" "cpu"|"gpu"). */}}
{{- define "cemi-dask.workerSpec" -}}
{{- $root := .root }}
{{- $gpu := eq .group "gpu" }}
{{- $worker := index .root.Values.workers .group }}
{{- include "cemi-dask.podCommon" (dict "root" $root "pod" $worker) }}
terminationGracePeriodSeconds: 60
containers:
  - name: worker
    image: {{ if $gpu }}{{ include "cemi-dask.gpuImage" $root }}{{ else }}{{ include "cemi-dask.image" $root }}{{ end }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    command: [dask, worker]
    args:
      - $(DASK_SCHEDULER_ADDRESS)
      - --name
      - $(DASK_WORKER_NAME)
      - --nworkers
      - "1"
      - --nthreads
      - "1"
      - --memory-limit
      - $(MEMORY_LIMIT)
      - --local-directory
      - /scratch
      - --worker-port
      - "8790"
      - --nanny-port
      - "8791"
      - --dashboard-address
      - ":8788"
      - --death-timeout
      - "300"
      {{- if $gpu }}
      - --resources
      - GPU=1
      {{- end }}
    envFrom:
      {{- include "cemi-dask.envFrom" $root | nindent 6 }}
    env:
      - name: DASK_SCHEDULER_ADDRESS
        value: {{ include "cemi-dask.address" $root }}
      {{- /* The operator gives its own names, and retires workers by them. */}}
      {{- if eq $root.Values.mode "deployment" }}
      - name: DASK_WORKER_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      {{- end }}
      - name: MEMORY_LIMIT
        valueFrom:
          resourceFieldRef:
            containerName: worker
            resource: limits.memory
      {{- include "cemi-dask.storageEnv" $root | nindent 6 }}
    ports:
      - {name: worker, containerPort: 8790, protocol: TCP}
      - {name: nanny, containerPort: 8791, protocol: TCP}
      - {name: http-dashboard, containerPort: 8788, protocol: TCP}
    startupProbe:
      httpGet: {path: /health, port: http-dashboard}
      periodSeconds: 5
      failureThreshold: 120
    readinessProbe:
      httpGet: {path: /health, port: http-dashboard}
      periodSeconds: 10
      timeoutSeconds: 10
    livenessProbe:
      httpGet: {path: /health, port: http-dashboard}
      periodSeconds: 30
      timeoutSeconds: 20
      failureThreshold: 6
    resources:
      requests:
        {{- include "cemi-dask.quantities" $worker.resources.requests | nindent 8 }}
        {{- if $gpu }}
        nvidia.com/gpu: {{ $worker.gpus | quote }}
        {{- end }}
      limits:
        {{- include "cemi-dask.quantities" $worker.resources.limits | nindent 8 }}
        {{- if $gpu }}
        nvidia.com/gpu: {{ $worker.gpus | quote }}
        {{- end }}
    securityContext:
      {{- include "cemi-dask.containerSecurity" $root | nindent 6 }}
    volumeMounts:
      {{- include "cemi-dask.mounts" (dict "root" $root "data" true) | nindent 6 }}
volumes:
  {{- include "cemi-dask.volumes" (dict "root" $root "data" true "scratch" $worker.scratchSize) | nindent 2 }}
{{- end -}}
