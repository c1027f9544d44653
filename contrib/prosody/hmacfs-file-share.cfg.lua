-- Prosody 0.12 and later with its own mod_http_file_share, which hands out slots of another server.
Component "upload.example.org" "http_file_share"
    -- The public address of the reverse proxy, and UploadSubDir of config.toml.
    http_file_share_base_url = "https://upload.example.org/upload"

    -- JWTSecret of config.toml.
    http_file_share_secret = "replace me"

    -- UploadMaxSize of config.toml.
    http_file_share_size_limit = 1073741824

    -- How long files stay: the token says it to hmacfs.
    http_file_share_expires_after = 60 * 60 * 24 * 31
