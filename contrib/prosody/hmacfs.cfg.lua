-- Prosody with mod_http_upload_external (from prosody-modules), for the VirtualHost or globally.
modules_enabled = { "http_upload_external" }

-- The public address of the reverse proxy, and UploadSubDir of config.toml.
http_upload_external_base_url = "https://upload.example.org/upload/"

-- What `hmacfs secret` prints.
http_upload_external_secret = "replace me"

-- v2 signs the content type too.
http_upload_external_protocol = "v2"

-- UploadMaxSize of config.toml.
http_upload_external_file_size_limit = 1073741824
