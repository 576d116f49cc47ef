module witness.example/tool

go 1.26.0

require filippo.io/torchwood v0.9.0
