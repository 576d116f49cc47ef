module hostile.example/programs

go 1.21
