-- Metronome with its own mod_http_upload_external.
Component "upload.example.org" "http_upload_external"
    -- The public address of the reverse proxy, and UploadSubDir of config.toml.
    http_file_external_url = "https://upload.example.org/upload/"

    -- What `hmacfs secret` prints.
    http_file_secret = "replace me"

    -- UploadMaxSize of config.toml.
    http_file_size_limit = 1073741824

    -- Deleting: the same address, and DeleteSecret of config.toml.
    http_file_external_delete_url = "https://upload.example.org/upload/"
    http_file_delete_secret = "replace me too"
