{{/* Name of all objects; an operator's cluster may have at most 53 letters. */}}
{{- define "cemi-dask.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cemi-dask.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cemi-dask.labels" -}}
{{ include "cemi-dask.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "cemi-dask.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "cemi-dask.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "cemi-dask.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "cemi-dask.gpuImage" -}}
{{ .Values.image.repository }}:{{ default (printf "%s-cuda" (default .Chart.AppVersion .Values.image.tag)) .Values.image.gpuTag }}
{{- end -}}

{{/* Where workers and the job find the scheduler; the operator names its service the same. */}}
{{- define "cemi-dask.address" -}}
{{ ternary "tls" "tcp" .Values.tls.enabled }}://{{ include "cemi-dask.fullname" . }}-scheduler.{{ .Release.Namespace }}.svc:8786
{{- end -}}

{{- define "cemi-dask.dashboard" -}}
http://{{ include "cemi-dask.fullname" . }}-scheduler.{{ .Release.Namespace }}.svc:8787
{{- end -}}

{{- define "cemi-dask.tlsSecret" -}}
{{- if eq .Values.tls.source "secret" -}}
{{- required "tls.source is secret: set tls.secretName" .Values.tls.secretName -}}
{{- else -}}
{{- include "cemi-dask.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{- define "cemi-dask.claim" -}}
{{- default (printf "%s-data" (include "cemi-dask.fullname" .)) .Values.storage.pvc.existingClaim -}}
{{- end -}}

{{/* Quantities as strings: the operator's resource definitions take no numbers. */}}
{{- define "cemi-dask.quantities" -}}
{{- range $name, $amount := . }}
{{ $name }}: {{ $amount | quote }}
{{- end }}
{{- end -}}

{{- define "cemi-dask.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.securityContext.runAsUser }}
runAsGroup: {{ .Values.securityContext.runAsGroup }}
fsGroup: {{ .Values.securityContext.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cemi-dask.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What every pod's spec begins with. Takes (dict "root" $ "pod" values). */}}
{{- define "cemi-dask.podCommon" -}}
serviceAccountName: {{ include "cemi-dask.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "cemi-dask.podSecurity" .root | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .pod.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* dask's settings, and where a read-only root may write. */}}
{{- define "cemi-dask.envFrom" -}}
- configMapRef:
    name: {{ include "cemi-dask.fullname" . }}-dask
{{- end -}}

{{- define "cemi-dask.storageEnv" -}}
{{- if eq .Values.storage.kind "s3" }}
{{- with .Values.storage.s3 }}
- name: AWS_REGION
  value: {{ .region | quote }}
- name: AWS_DEFAULT_REGION
  value: {{ .region | quote }}
{{- if .endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ .endpointUrl | quote }}
{{- if hasPrefix "http://" .endpointUrl }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- end }}
{{- if .secretName }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.storage.s3.secretName }}
      key: {{ $key }}
{{- end }}
- name: AWS_SESSION_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .secretName }}
      key: AWS_SESSION_TOKEN
      optional: true
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Mounts of a container. Takes (dict "root" $ "data" bool). */}}
{{- define "cemi-dask.mounts" -}}
- name: scratch
  mountPath: /scratch
{{- if .root.Values.tls.enabled }}
- name: tls
  mountPath: /etc/cemi/tls
  readOnly: true
{{- end }}
{{- if and .data (eq .root.Values.storage.kind "pvc") }}
- name: data
  mountPath: /data
{{- end }}
{{- end -}}

{{/* Volumes for them. Takes (dict "root" $ "data" bool "scratch" quantity). */}}
{{- define "cemi-dask.volumes" -}}
- name: scratch
  emptyDir:
    sizeLimit: {{ .scratch | quote }}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "cemi-dask.tlsSecret" .root }}
    defaultMode: 288
{{- end }}
{{- if and .data (eq .root.Values.storage.kind "pvc") }}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "cemi-dask.claim" .root }}
{{- end }}
{{- end -}}

{{/* Restarts pods when dask's settings change. */}}
{{- define "cemi-dask.annotations" -}}
checksum/dask: {{ include (print .root.Template.BasePath "/configmap-dask.yaml") .root | sha256sum }}
{{- with .pod.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}
