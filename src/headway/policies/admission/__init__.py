"""Accept a request, or say why not?"""
