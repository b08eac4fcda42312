{{- define "mesh.labels" -}}
app.kubernetes.io/name: mesh-control
app.kubernetes.io/part-of: mesh
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "mesh.selector" -}}
app.kubernetes.io/name: mesh-control
app.kubernetes.io/part-of: mesh
{{- end }}

{{- /* A digest says more than a tag, so it goes before it. */ -}}
{{- define "mesh.controlImage" -}}
{{- if .Values.images.registry }}{{ .Values.images.registry }}/{{ end }}{{ .Values.images.control.name }}
{{- if .Values.images.control.digest }}@{{ .Values.images.control.digest }}
{{- else }}:{{ .Values.images.control.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "mesh.proxyImage" -}}
{{- if .Values.images.registry }}{{ .Values.images.registry }}/{{ end }}{{ .Values.images.proxy.name }}
{{- if .Values.images.proxy.digest }}@{{ .Values.images.proxy.digest }}
{{- else }}:{{ .Values.images.proxy.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}
